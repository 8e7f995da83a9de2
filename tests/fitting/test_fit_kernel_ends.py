"""How a fit ends: by itself, interrupted or where it goes wrong; and goes on."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse as sp

from jaxvelo import objectives, tl
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from tests.bent_line import N_CELLS
from tests.fitting.fits import CLOSE, QUICK, check_scores, same
from tests.fitting.known_fates import make_known
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision


class TestWhereItGoesWrong:
    @staticmethod
    def gain_until(limit):
        time = jnp.asarray(np.linspace(0, 1, N_CELLS), dtype=float)

        def loss(matrix):
            gain = matrix @ time - time
            return jnp.where(jnp.mean(gain) > limit, jnp.nan, -gain)

        return loss

    def test_later(self, mixed, logged):
        """The parameters before the step are kept, and the warning names step and parameters."""
        adata = mixed.adata
        settings = {"starts": 1, "validation": None, "optimizer": optax.adam(0.1), **QUICK}
        fine = tl.fit_kernel(mixed, objectives.FunctionOf(adata, self.gain_until(np.inf)), **settings)
        losses = fine.history["training"][:, 0]
        assert (np.diff(losses[:8]) < 0).all()
        logged()
        limited = objectives.FunctionOf(adata, self.gain_until(-(losses[4] + losses[5]) / 2))
        result = tl.fit_kernel(mixed, limited, **settings)
        text = logged()
        assert "WARNING: Start 0: the loss or its gradient is not finite at step 5, with {'softmax_scale':" in text
        assert "'weights': [" in text
        assert "Keeping the best parameters before it" in text
        assert result.step == 4
        np.testing.assert_array_equal(result.failed, [5])
        assert np.isclose(result.scores["training"], losses[4], **CLOSE)
        assert len(result.history["loss"]) == 6
        assert np.isnan(result.history["loss"][5, 0])
        check_scores(result, limited)

    def test_one_start_of_two(self, mixed, logged):
        limited = objectives.FunctionOf(mixed.adata, self.gain_until(0.0))
        before = float(np.mean(np.asarray(limited.item_losses((mixed.transitions,), {}, None))))
        assert np.isnan(before)
        low = {"weights": 1e-3}
        result = tl.fit_kernel(mixed, limited, starts=[{}, low], validation=None, steps=1, progress=False, prior=np.inf)
        assert "Start 0: the loss or its gradient is not finite at step 0" in logged()
        assert result.start == 1
        np.testing.assert_array_equal(result.failed, [0, -1])

    def test_at_once(self, mixed):
        broken = objectives.FunctionOf(mixed.adata, self.gain_until(-np.inf))
        with unchanged(mixed.adata), pytest.raises(ValueError, match=r"not finite at step 0, with .*softmax_scale"):
            tl.fit_kernel(mixed, broken, **QUICK)

    def test_fates_that_are_lost_on_the_way(self, velocity):
        """Where a sharp softmax makes probabilities zero, no fate is known: the error says so, and what to do."""
        fates = objectives.FateLikelihood(velocity.adata, {"a": [9], "b": [8]}, {"a": [30], "b": [31]})
        starts = [{"softmax_scale": 1e6}]
        with pytest.raises(ValueError, match=r"not finite at step 0, with .*reach no terminal cell.*softmax scale"):
            tl.fit_kernel(velocity, fates, starts=starts, validation=None, **QUICK)
        with pytest.raises(ValueError, match=r"finite loss at some point of the grid.*reach no terminal cell"):
            tl.sweep_kernel(velocity, fates, [1e6])

    def test_unreachable_cells_are_named(self):
        adata = make_known()
        graph = adata.obsp["connectivities"].tolil()
        graph[30:34, :] = 0
        graph[:, 30:34] = 0
        for i in range(30, 34):
            for j in set(range(30, 34)) - {i}:
                graph[i, j] = 1.0
        adata.obsp["connectivities"] = sp.csr_matrix(graph)
        kernel = VelocityKernel(adata).compute_transition_matrix()
        objective = objectives.FateLikelihood(adata, "fate", "terminal")
        message = r"found 4 that cannot: \['cell_30', 'cell_31', 'cell_32', 'cell_33'\]"
        with unchanged(adata), pytest.raises(ValueError, match=message):
            tl.fit_kernel(kernel, objective, **QUICK)

    def test_unknown_fate(self, known):
        with pytest.raises(ValueError, match=r"found none for \['left'\]. `terminal` has \['begin', 'end'\]"):
            objectives.FateLikelihood(known, {"left": [7], "end": [8]}, "terminal")


class TestEnds:
    def test_interrupted_and_resumed(self, mixed, fates, plain_fit, monkeypatch):
        from jaxvelo.annotated import progress_bar

        class Impatient(progress_bar.tqdm):
            def set_postfix(self, *args, **kwargs):
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(progress_bar, "tqdm", Impatient)
            stopped = tl.fit_kernel(mixed, fates, **QUICK)
        assert len(stopped.history["loss"]) == 10
        assert stopped.scores["training"] < stopped.scores["training_convention"]
        same(plain_fit, tl.fit_kernel(mixed, fates, resume=stopped, **QUICK))

    def test_interrupted_while_choosing_the_penalty(self, mixed, fates, genes_fit, monkeypatch):
        """One interrupt ends the whole search, not one fold of it."""
        from jaxvelo.fit import _minimize

        calls, step = [], _minimize._step

        def interrupted(*args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return step(*args)

        monkeypatch.setattr(_minimize, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tl.fit_kernel(mixed, fates, train=["scale", "weights", "gene_weights"], **QUICK)
        assert len(calls) == 3

    def test_patience(self, mixed, fates):
        settings = {"patience": 2, "starts": 1, "progress": False}
        stopped = tl.fit_kernel(mixed, fates, steps=400, optimizer=optax.adam(1.0), **settings)
        n_steps = len(stopped.history["loss"])
        assert n_steps < 400
        assert np.isfinite(stopped.history["loss"]).all()
        assert f"FitResult: FateLikelihood, {n_steps} steps, best at step {stopped.step}" in str(stopped)
        loss = stopped.history["loss"][:, 0]
        assert (loss[-2:] > loss[: n_steps - 2].min() * (1 - 1e-4)).all()

    def test_nothing_left_to_resume(self, mixed, fates, plain_fit):
        same(plain_fit, tl.fit_kernel(mixed, fates, resume=plain_fit, **QUICK))
        optimizer = optax.adam(1.0)
        settings = {"patience": 2, "starts": 1, "progress": False, "optimizer": optimizer}
        stopped = tl.fit_kernel(mixed, fates, steps=400, **settings)
        same(stopped, tl.fit_kernel(mixed, fates, steps=500, resume=stopped, **settings))

    def test_resume_of_another_fit(self, mixed, velocity, fates, plain_fit):
        with pytest.raises(ValueError, match="the same kernel, `train` and `starts`"):
            tl.fit_kernel(velocity, fates, resume=plain_fit, **QUICK)
        with pytest.raises(ValueError, match="the same kernel, `train` and `starts`"):
            tl.fit_kernel(mixed, fates, starts=3, resume=plain_fit, **QUICK)

    def test_resume_with_another_objective(self, mixed, gain, plain_fit):
        with pytest.raises(ValueError, match="fit to resume, `FateLikelihood`, found `TimeGain`"):
            tl.fit_kernel(mixed, gain, resume=plain_fit, **QUICK)

    def test_resume_with_other_data(self, known, mixed, fates, plain_fit):
        """Of the same names and shapes."""
        message = "Expected the data of the fit to resume, with a loss of .* found one of .* Fit anew"
        swapped = known.copy()
        swapped.obs["fate"] = swapped.obs["fate"].cat.rename_categories({"begin": "end", "end": "begin"})
        objective = objectives.FateLikelihood(swapped, "fate", "terminal", blind=0)
        with pytest.raises(ValueError, match=message):
            tl.fit_kernel(mixed, objective, resume=plain_fit, **QUICK)
        # On the held-out cells alone.
        held_out = known.copy()
        names = held_out.obs["fate"].astype(object).to_numpy(copy=True)
        other = {"begin": "end", "end": "begin"}
        names[plain_fit.validation] = [other.get(name, name) for name in names[plain_fit.validation]]
        held_out.obs["fate"] = names
        objective = objectives.FateLikelihood(held_out, "fate", "terminal", blind=0)
        with pytest.raises(ValueError, match=r"on the validation cells, found one of .* Fit anew"):
            tl.fit_kernel(mixed, objective, resume=plain_fit, **QUICK)
        velocity, connectivity = mixed.kernels
        cosine = velocity.copy().compute_transition_matrix(similarity="cosine")
        with pytest.raises(ValueError, match=message):
            tl.fit_kernel(0.8 * cosine + 0.2 * connectivity, fates, resume=plain_fit, **QUICK)

    def test_resume_on_other_cells(self, known, plain_fit):
        few = known[:40].copy()
        kernel = 0.8 * VelocityKernel(few).compute_transition_matrix()
        kernel += 0.2 * ConnectivityKernel(few).compute_transition_matrix()
        objective = objectives.FateLikelihood(few, {"begin": [9], "end": [8]}, {"begin": [0], "end": [1]})
        with pytest.raises(ValueError, match="kernel of the fit to resume, on 60 cells, found one on 40"):
            tl.fit_kernel(kernel, objective, resume=plain_fit, **QUICK)

    def test_interrupted_at_once(self, mixed, fates, plain_fit, monkeypatch, tmp_path):
        """Before the first step is done: the convention, from which it goes on."""
        from jaxvelo.fit import _minimize

        def interrupted(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_minimize, "_step", interrupted)
            nothing = tl.fit_kernel(mixed, fates, **QUICK)
        assert nothing.history["loss"].shape == (0, 1)
        assert nothing.scores["validation_gain"] == 0
        assert repr(nothing.kernel) == repr(mixed)
        assert str(nothing).startswith("FitResult: FateLikelihood, 0 steps")
        nothing.plot(save=tmp_path / "nothing.png")
        same(plain_fit, tl.fit_kernel(mixed, fates, resume=nothing, **QUICK))
