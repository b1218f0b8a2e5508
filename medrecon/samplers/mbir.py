"""DiffusionMBIR: predictor and corrector on the noisy volume, one step of ADMM along z at every noise level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.regularisers import Regulariser
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.samplers.published_mbir import PUBLISHED_WIDTH, CircularTV, chunk_mean, from_published
from medrecon.schedules import log_schedule
from medrecon.solvers import SplitState, admm, least_squares_gram

_SIGMA_MAX = 378.0  # of the published variance-exploding process
_RHO, _LAM = from_published(10.0, 0.04, PUBLISHED_WIDTH)


@samplers.register("mbir", family="diffusion")
@dataclass(frozen=True)
class DiffusionMBIR(Sampler):
    """DiffusionMBIR: predictor-corrector on the noisy volume with total variation along z (Chung et al., CVPR 2023).

    One step, from noise level s to the next one s', with D the prior and ``||A|| = 1``::

        x  <-  x + (1 - s'^2 / s^2) (D(x, s) - x) + sqrt(s^2 - s'^2) n       reverse diffusion (predictor)
        x  <-  x + e (D(x, s') - x) / s'^2 + sqrt(2 e) n                     Langevin (corrector)
        x  <-  one conjugate-gradient step on (A'A + rho Dz'Dz) x = A'y + rho Dz'(z - u)
        z  <-  soft(Dz x + u, lam / rho);    u <- u + Dz x - z

    with ``e = 2 (snr ||n|| / ||score||)^2`` for each slice. The duals ``z`` and ``u`` live as long as the run, so the
    data and the third axis are solved for along with the diffusion. A last Kaczmarz-like sweep meets the data of
    projectors. Any number of steps works; few need a ``sigma_max`` near the contrast of the volume. More than one
    ``cg_iterations`` also fits the split ``z`` more closely, which holds the noise of the level before.

    **Weights.** ``rho`` and ``lam`` are relative to ``||A||^2``, for values of order one. The published ones for CT
    (rho = 10, lamb = 0.04) go with a back-projection scaled by ``pi / (2 views)``, whose ``||A'A||`` is 390 at 256
    pixels whatever the number of views: so rho = 10 / 390 and lam = 0.04 / 390, the defaults; the threshold
    ``lam / rho = 0.004`` stays. For another width W divide by ``390 W / 256`` (:func:`from_published`). The published
    MR weights (rho = 0.01, lamb = 0.005) belong to ``||A'A|| = 1`` and hold as they are. ``rho`` is meant for plain
    differences, as published; where slices are nearer to each other than pixels, differences by spacing are larger, and
    ``rho`` is divided by their square: else it would hold the volume to the noise that the split has kept.

    **exact** follows the published code where it differs: independent noise as the start; the corrector at the level
    of the predictor; its step lengths averaged over chunks of slices; circular differences along z without spacing;
    weights that grow as 256 / W, since the code does not divide by the norm; noise kept in the last step. Conjugate
    gradients and the adjoint are right in either case, and data are weighted by their noise model if the problem has
    one; the published code has none.
    """

    steps: int = 2000
    sigma_max: float = 0.0  # 0: the prior's highest level, at most the published 378
    sigma_min: float = 0.01
    snr: float = 0.16  # of the corrector
    rho: float = _RHO
    lam: float = _LAM
    cg_iterations: int = 1
    correlation_mm: float = 0.0  # of the noise along z; published: independent
    exact: bool = False

    needs_prior = True

    def __post_init__(self) -> None:
        if not self.rho > 0:
            raise UsageError("rho must be positive", found=self.rho)
        if not self.sigma_min > 0 or 0 < self.sigma_max < self.sigma_min:
            raise UsageError("noise levels must fall", found=(self.sigma_max, self.sigma_min))

    @property
    def total_steps(self) -> int:
        """One predictor and one corrector each."""
        return self.steps

    @property
    def stochastic(self) -> bool:
        """Always."""
        return True

    def evaluations(self) -> int:
        """Two per step; none for the corrector of the last one, which is at level zero."""
        return 2 * self.steps - (0 if self.exact else 1)

    def levels(self, system: System) -> list[float]:
        """Noise levels in geometric progression, with a final zero."""
        card = system.prior.card  # type: ignore[union-attr]
        highest = self.sigma_max or min(card.sigma_max / card.scale, _SIGMA_MAX)
        return [*log_schedule(highest, self.sigma_min, self.steps).tolist(), 0.0]

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Noise of the first level, on top of the classical volume where there is one; duals at zero."""
        clean = torch.zeros_like(system.back_projection)
        if system.start is not None:
            clean = system.start
        mean = torch.zeros_like(clean) if self.exact else clean
        x = mean + self.levels(system)[0] * self._noise(system, noise, 0)
        split = torch.zeros_like(self._regulariser(system).K(clean))
        duals = SplitState((split,), (torch.zeros_like(split),))
        return State(0, clean, {"x": x} | duals.to_tensors())

    def _noise(self, system: System, noise: KeyedNoise, key: int) -> Tensor:
        correlation = self.correlation_mm / system.geometry.spacing[0]
        return noise.volume(key, system.geometry.shape, correlation)

    def _regulariser(self, system: System) -> Regulariser:
        return CircularTV(system.geometry.shape) if self.exact else system.total_variation((0,))

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """Predictor, corrector and one step of ADMM."""
        levels = self.levels(system)
        sigma, following = levels[state.step], levels[state.step + 1]
        last = state.step + 1 == self.total_steps
        x = state.tensors["x"]
        clean = system.denoise(x, sigma)
        x = x + (1 - (following / sigma) ** 2) * (clean - x)
        if not last or self.exact:
            x = x + (sigma**2 - following**2) ** 0.5 * self._noise(system, noise, 2 * state.step + 1)
            level = sigma if self.exact else following
            x = self._correct(system, x, level, self._noise(system, noise, 2 * state.step + 2))
        x, duals = self._fit(system, x, state)
        estimate = clean
        if last:
            estimate = _consistent(system, x)
        if system.lower is not None:
            estimate = estimate.clamp_min(system.lower)
        return state.advance(
            estimate, {"x": x} | duals.to_tensors(), sigma=sigma, discrepancy=system.discrepancy(estimate)
        )

    def _correct(self, system: System, x: Tensor, level: float, fresh: Tensor) -> Tensor:
        """One Langevin step at ``level``; slices where the score vanishes stay as they are."""
        score = (system.denoise(x, level) - x) / level**2
        push = torch.linalg.vector_norm(score, dim=(1, 2))
        size = torch.linalg.vector_norm(fresh, dim=(1, 2))
        if self.exact:
            push, size = chunk_mean(push), chunk_mean(size)
        ratio = torch.where(push > 0, self.snr * size / push, torch.zeros_like(push))
        length = (2 * ratio**2)[:, None, None]
        return x + length * score + (2 * length).sqrt() * fresh

    def _fit(self, system: System, x: Tensor, state: State) -> tuple[Tensor, SplitState]:
        """One ADMM iteration, the duals taken on from the last step."""
        scale = PUBLISHED_WIDTH / system.geometry.shape[2] if self.exact else 1.0
        term = self._regulariser(system)
        result = admm(
            least_squares_gram(system.op),
            system.back_projection,
            [term],
            [self.lam * scale],
            x=x,
            state=SplitState.from_tensors(state.tensors, 1),
            rho=[self.rho * scale / term.stiffness],
            iterations=1,
            cg_iterations=self.cg_iterations,
            cg_tolerance=0.0,
            relaxation=1.0,
        )
        return result.x, result.state


def _consistent(system: System, x: Tensor) -> Tensor:
    """``x + A'(y - A x) / (A'A 1)``; unchanged for operators with negative entries, where that means nothing."""
    weights = system.op.normal(torch.ones_like(x))
    if float(weights.min()) < 0 or float(weights.max()) == 0:
        return x
    seen = weights > 1e-6 * float(weights.max())
    change = -system.op.adjoint(system.data_residual(x)) / torch.where(seen, weights, torch.ones_like(weights))
    return x + change * seen
