from tests.transitions.test_compilations import compilations

__all__ = ["compilations"]
