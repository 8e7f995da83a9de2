"""CellRank's rules of adding and multiplying, for transition functions and for all else that is combined like them.

1. A weight in front of what has one already becomes their product.
2. Weights in front of the factors of a product are without effect, and are left out.
3. A weighted term joins a sum of weighted terms. In all other sums both sides are terms: what has a weight, and what is
   a product, as they are; the rest with the weight one.

A product beside terms with a weight is not normalised, see :class:`~jaxvelo.transitions.Product`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Protocol, Self, TypeVar


class Role(enum.Enum):
    """What an operand is to the rules."""

    BASIC = enum.auto()
    WEIGHTED = enum.auto()
    PRODUCT = enum.auto()
    SUM_OF_WEIGHTED = enum.auto()
    SUM = enum.auto()


class Operand(Protocol):
    """What the rules ask of an operand; ``weight`` of one that is weighted only."""

    @property
    def role(self) -> Role:
        """Its role."""

    @property
    def terms(self) -> tuple[Any, ...]:
        """Terms of a sum."""

    @property
    def unweighted(self) -> Any:
        """The operand without a weight in front."""


class PositiveSums:
    """Operators of what is added with positive weights: :func:`sum` starts from zero, and there is no difference.

    Attributes
    ----------
    _plural
        What several of them are called.
    """

    _plural: ClassVar[str]

    def __radd__(self, other: Any) -> Self:
        # `sum` starts from the number zero.
        is_zero = isinstance(other, (int, float)) and not isinstance(other, bool) and other == 0
        return self if is_zero else NotImplemented

    def __neg__(self) -> NoReturn:
        raise self._no_difference()

    def __sub__(self, other: Any) -> NoReturn:
        raise self._no_difference()

    def __rsub__(self, other: Any) -> NoReturn:
        raise self._no_difference()

    def _no_difference(self) -> TypeError:
        return TypeError(
            f"Expected a sum or a product of {self._plural}, found a difference: weights are positive, as "
            "probabilities are. Give the one that is to count less a smaller weight, as in `0.8 * a + 0.2 * b`."
        )


AnyOperand = TypeVar("AnyOperand", bound=Operand)


def with_weight(operand: Any, weight: Any) -> tuple[Any, Any]:
    """Weight and operand of ``weight * operand``, by rule 1."""
    known = operand.weight * weight if operand.role is Role.WEIGHTED else weight
    return known, operand.unweighted


def factors_of_product(left: AnyOperand, right: AnyOperand) -> tuple[AnyOperand, AnyOperand]:
    """Factors of ``left * right``, by rule 2."""
    return left.unweighted, right.unweighted


def terms_of_sum(
    left: AnyOperand, right: AnyOperand, with_weight_one: Callable[[AnyOperand], AnyOperand]
) -> tuple[AnyOperand, ...]:
    """Terms of ``left + right``, by rule 3."""

    def as_term(operand: AnyOperand) -> AnyOperand:
        return operand if operand.role in (Role.WEIGHTED, Role.PRODUCT) else with_weight_one(operand)

    for total, term in ((left, right), (right, left)):
        if total.role is Role.SUM_OF_WEIGHTED and term.role in (Role.BASIC, Role.WEIGHTED):
            return (*total.terms, as_term(term))
    return as_term(left), as_term(right)
