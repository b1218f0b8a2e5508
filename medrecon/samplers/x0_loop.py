"""The one diffusion loop in clean-image space; the published fast solvers are presets of it.

At each noise level s the loop denoises all slices, moves the denoised volume towards the data (and a model prior
along z), and adds noise for the next level::

    x0 = prior.denoise(x, s)
    xh = argmin  1/2 ||A x - y||_W^2 + 1/(2 r^2) ||x - x0||^2 + lam TV(x)
    x  = xh + s_next (eta n + sqrt(1 - eta^2) e)

with n fresh noise, correlated along z, and e the noise that the denoiser saw. Presets differ in the data step
(`r`, or a fixed number of conjugate-gradient steps), in the noise put back and in the levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.prior import PriorCard
from medrecon.problem import System
from medrecon.regularisers import check_axes
from medrecon.samplers.annealed import Annealed, check_choices
from medrecon.samplers.base import State, samplers
from medrecon.samplers.guidance import pseudo_inverse_guidance, residual_gradient
from medrecon.samplers.steppers import Place, Stepper, steppers
from medrecon.samplers.turns import denoise_in_turn
from medrecon.solvers import SplitState, admm, cg, least_squares_gram

_INITIAL_STEP = 0  # noise key of the first volume; the loop's steps count from 1
_PENALTIES = ["tv", "huber", "l2", "low-rank", "dip"]
_GUIDE = "guide"
_MEMORY = "memory_"  # before the names of what the stepper remembers
_THRESHOLD = 0.05  # weight / rho of total variation in a proximal step, which is ended early
_DIFFERENTIATING = ("pseudo-inverse", "gradient")  # data steps that evaluate the prior once more
_KRYLOV_RHO = 0.025  # the published rho = 10 over ||A'A|| = 390 of the published operator


@dataclass(frozen=True)
class X0Loop(Annealed):
    """Denoise, fit the data, add noise: the default diffusion loop (Chung et al. 2024, DDS, algorithm 1)."""

    sigma_max: float = 0.5
    stepper: str = "ddim"  # rule for the step from one level to the next
    eta: float = 0.0  # share of fresh noise
    noise_scale: float = 0.0  # 0: no noise is put back (annealed plug and play); 1: as much as the next level has
    data_step: str = "proximal"  # or "krylov" (a few CG steps on the data alone), "range" (fit the data exactly),
    # or through the derivative of the prior: "pseudo-inverse" (PiGDM), "gradient" (DPS)
    zeta: float = 0.04  # length of a step of "gradient"
    effective_noise: bool = False  # e from the fitted volume instead of the denoised one (DiffPIR)
    trust: float = 1.0  # r = trust * s, or trust * (the prior's error at s)
    error: str = "level"  # "level": r follows s; "matched": r follows the prior's validated error
    empty: float = 0.0  # r where the denoised volume is empty space; 0: as everywhere
    iterations: int = 10  # of ADMM in a proximal data step
    cg_iterations: int = 10
    tv: float = 2.0  # weight of the model prior, in units of the error of a datum, as in `tv`
    tv_axes: tuple[int, ...] = (0, 1, 2)
    penalty: str = "tv"  # the model prior: or "huber", "l2", "low-rank" (along z), "dip" (along the slopes of events)
    guided: bool = True  # whether a prior that was trained with a guide gets one
    directions: tuple[int, ...] = (0,)  # axes along which the prior takes its slices, in turns; 0 is z
    correlation_mm: float = 6.0  # of the fresh noise along z
    model_error: float = 0.01  # of the forward model, relative to the data, added to the noise
    renewals: int = 0  # how often a fitted volume becomes the guide, in place of the start; for ever it would run away
    reach: float = 0.0  # MRI: samples from the measured frequencies at which half of the answer counts; 0: all of it
    mirrors: int = 1  # 2 or 4: the prior answers for as many mirror images of each slice, and the mean counts

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(
            ("data step", self.data_step, ["proximal", "krylov", "range", *_DIFFERENTIATING]),
            ("error", self.error, ["level", "matched"]),
            ("stepper", self.stepper, steppers.names()),
            ("penalty", self.penalty, _PENALTIES),
        )
        check_axes(self.tv_axes)
        check_axes(self.directions)
        if self.eta > 1:
            raise UsageError("eta is a share: at most 1", found=self.eta)
        if self.data_step in _DIFFERENTIATING and (self.directions != (0,) or self.mirrors > 1):
            raise UsageError(
                f"data step {self.data_step} takes slices along z, and no mirror images",
                found=f"directions {self.directions}, mirrors {self.mirrors}",
            )
        if self._stepper.deterministic and self.eta > 0:
            raise UsageError(f"stepper {self.stepper} takes no fresh noise", found=f"eta {self.eta}", expected="eta 0")
        if self.mirrors not in (1, 2, 4):
            raise UsageError("a slice has 1, 2 or 4 mirror images", found=self.mirrors)
        if not self.trust > 0:
            raise UsageError("trust must be positive", found=self.trust)

    def for_prior(self, card: PriorCard) -> X0Loop:
        """See :class:`Annealed`; a stepper too may need to know something of the prior."""
        if self.noise_scale > 0:
            steppers.get(self.stepper).for_prior(card)
        return super().for_prior(card)

    def evaluations(self) -> int:
        """One per step and mirror image, those of the stepper, and those of data steps that differentiate the prior."""
        fit = 1 if self.data_step in _DIFFERENTIATING else 0
        extra = self._stepper.extra_evaluations(self.steps) if self.noise_scale > 0 else 0
        return self.steps * (self.mirrors + fit) + extra * (self.mirrors + fit * self.effective_noise)

    @property
    def _stepper(self) -> Stepper:
        return steppers.get(self.stepper)()

    @property
    def stochastic(self) -> bool:
        """Where noise is put back."""
        return self.noise_scale > 0

    def init(self, system: System, noise: KeyedNoise) -> State:
        """The classical volume, or zero, plus noise of the first level where the preset is stochastic."""
        clean = system.start if system.start is not None else torch.zeros_like(system.back_projection)
        noisy = clean + self.noise_scale * self.levels()[0] * self._noise(system, noise, _INITIAL_STEP)
        tensors = {"x": noisy, "correction": torch.zeros_like(clean)}
        if self.data_step == "krylov":
            tensors |= SplitState.zeros(self._terms(system, clean)[:1], clean).to_tensors()
        return State(0, clean, tensors)

    def _terms(self, system: System, clean: Tensor) -> list:
        """The model prior, following the structure of the volume as it is now, and the bounds."""
        return [] if self.tv == 0 else [system.penalty(self.penalty, self.tv_axes).steered(clean), *system.bounds()]

    def _noise(self, system: System, noise: KeyedNoise, step: int) -> Tensor:
        if self.noise_scale == 0:
            return torch.zeros(())
        # Slices of other directions would show noise that is correlated along z as streaks
        correlation = self.correlation_mm / system.geometry.spacing[0] if self.directions == (0,) else 0.0
        return noise.volume(step, system.geometry.shape, correlation)

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """One pass of the loop."""
        levels = self.levels()
        sigma, x = levels[state.step], state.tensors["x"]
        clean = self._denoise(system, x, sigma, state)
        fitted, splits = self._fit(system, x, clean, sigma, state)
        noisy, memory = fitted, dict[str, Tensor]()
        if self.noise_scale > 0 and state.step + 1 < self.steps:
            noisy, memory = self._next(system, state, clean, fitted, noise)
        guide = fitted if self.guided and state.step < self.renewals else state.tensors.get(_GUIDE)
        return state.advance(
            fitted,
            {"x": noisy, "correction": fitted - clean} | splits | memory | ({} if guide is None else {_GUIDE: guide}),
            sigma=sigma,
            discrepancy=system.discrepancy(fitted),
            data_change=float(torch.linalg.vector_norm(fitted - clean)) / clean.numel() ** 0.5,
        )

    def _denoise(self, system: System, x: Tensor, sigma: float, state: State) -> Tensor:
        guide = state.tensors.get(_GUIDE)  # of the last renewal; before the first one the start
        clean = denoise_in_turn(self._asked(system), x, sigma, self.directions, state.step, guide, self.mirrors)
        return system.within_reach(clean, self.reach) if self.reach > 0 else clean

    def _asked(self, system: System) -> System:
        """As the prior is to see it."""
        return system if self.guided else replace(system, start=None)

    def _next(
        self, system: System, state: State, clean: Tensor, fitted: Tensor, noise: KeyedNoise
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The noisy volume of the next level, and what the stepper remembers.

        The stepper follows the fitted volumes where e is theirs; else the denoised ones, and what the data changed
        comes on top.
        """
        stepper = steppers.get(self.stepper).for_prior(system.prior.card)  # type: ignore[union-attr]
        levels = self.levels()
        sigma, following = levels[state.step], levels[state.step + 1]
        share = stepper.fresh_share(self.eta, sigma, following)
        place = Place(levels[: state.step + 1], following, following * (1 - share**2) ** 0.5)
        memory = {name.removeprefix(_MEMORY): t for name, t in state.tensors.items() if name.startswith(_MEMORY)}

        def evaluate(x: Tensor, level: float) -> Tensor:
            again = self._denoise(system, x, level, state)
            return self._fit(system, x, again, level, state)[0] if self.effective_noise else again

        known = fitted if self.effective_noise else clean
        x = stepper.corrected(state.tensors["x"], known, place, memory)
        moved, memory = stepper.advance(x, known, place, memory, evaluate)
        noisy = moved + (fitted - known)
        if share > 0:
            noisy = noisy + following * share * self._noise(system, noise, state.step + 1)
        noisy = torch.lerp(fitted, noisy, self.noise_scale)
        return noisy, {_MEMORY + name: tensor for name, tensor in memory.items()}

    def _fit(
        self, system: System, x: Tensor, clean: Tensor, sigma: float, state: State
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.data_step == "krylov":
            return self._krylov(system, clean, state)
        if self.data_step == "range":
            # x0 + A^+ (y - A x0): only what the data can speak to is changed (Wang et al. 2023, DDNM, eq. 14)
            missing = -system.data_residual(clean)
            gram = least_squares_gram(system.op, 1e-6)
            fitted = clean + cg(gram, system.op.adjoint(missing), max_iterations=self.cg_iterations).x
            return (fitted if system.lower is None else fitted.clamp_min(system.lower)), {}
        radius = self.trust * (sigma if self.error == "level" else system.prior_error(sigma))
        error = system.data_error(self.model_error)
        if self.data_step in _DIFFERENTIATING:
            if self.data_step == "gradient":
                fitted = clean + self.zeta * residual_gradient(self._asked(system), x, clean, sigma)
            else:
                fitted = clean + pseudo_inverse_guidance(
                    self._asked(system), x, clean, sigma, radius, error, self.cg_iterations
                )
            return (fitted if system.lower is None else fitted.clamp_min(system.lower)), {}
        damping = torch.full_like(clean, (error / radius) ** 2)
        if self.empty > 0:
            damping.masked_fill_(system.empty(clean), (error / self.empty) ** 2)
        terms = self._terms(system, clean)
        weight = self.tv * error**2
        fitted = admm(
            least_squares_gram(system.op, damping),
            system.back_projection + damping * clean,
            terms,
            [weight, 0.0][: len(terms)],
            # What the data asked for at the last level is a good guess of what they ask for now
            x=clean + state.tensors["correction"],
            rho=[weight / _THRESHOLD] * len(terms),
            iterations=self.iterations,
            cg_iterations=self.cg_iterations,
            cg_tolerance=0.0,
        ).x
        return (fitted if system.lower is None else fitted.clamp_min(system.lower)), {}

    def _krylov(self, system: System, clean: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """A few CG steps from the denoised volume, which stay close to it, with total variation kept across steps.

        Chung et al. 2024 (DDS), section 3.3 and algorithm 3; weights relative to ``||A|| = 1``.
        """
        terms = self._terms(system, clean)[:1]
        result = admm(
            least_squares_gram(system.op),
            system.back_projection,
            terms,
            [self.tv * _KRYLOV_RHO][: len(terms)],
            x=clean,
            state=SplitState.from_tensors(state.tensors, len(terms)),
            rho=[_KRYLOV_RHO / term.stiffness for term in terms],
            iterations=1,
            cg_iterations=self.cg_iterations,
            cg_tolerance=0.0,
            relaxation=1.0,
        )
        fitted = result.x if system.lower is None else result.x.clamp_min(system.lower)
        return fitted, result.state.to_tensors()


@samplers.register("pnp", family="diffusion")
@dataclass(frozen=True)
class PlugAndPlay(X0Loop):
    """Annealed plug and play, deterministic: for any prior (half-quadratic splitting; Zhang et al. 2021)."""

    steps: int = 6
    sigma_max: float = 1.0
    trust: float = 0.5


@samplers.register("refine", family="diffusion")
@dataclass(frozen=True)
class Refine(X0Loop):
    """Guided priors at one high level, the fitted volume the next guide: most accurate per evaluation.

    At that level the noisy slice says little and the prior answers from its guide: what a volume of its kind, with its
    artefacts, shows most probably.
    """

    steps: int = 3
    sigma_max: float = 2.0
    sigma_min: float = 2.0
    trust: float = 0.05
    empty: float = 0.01
    iterations: int = 16
    tv: float = 3.0
    renewals: int = 2
    mirrors: int = 2


def _published_eta(steps: int) -> float:
    """Share of fresh noise that Chung et al. 2024 (DDS) took for 19, 49 and 99 evaluations, and in between."""
    return round(float(np.interp(steps, (19, 49, 99), (0.15, 0.5, 0.8))), 2)


@samplers.register("dds", family="diffusion")
@dataclass(frozen=True)
class DDS(X0Loop):
    """Decomposed diffusion sampling with total variation along z (Chung et al., ICLR 2024).

    ``eta`` follows the number of steps as in the paper, unless it is said; the published code has 0.85 at 50.
    """

    sigma_max: float = 1.0
    eta: float = _published_eta(X0Loop.steps)
    noise_scale: float = 1.0
    data_step: str = "krylov"
    cg_iterations: int = 5
    tv: float = 0.004
    tv_axes: tuple[int, ...] = (0,)

    @classmethod
    def completed(cls, settings: dict[str, object]) -> dict[str, object]:
        """See the class."""
        return {"eta": _published_eta(int(str(settings.get("steps", cls.steps))))} | settings


@samplers.register("diffpir", family="diffusion")
@dataclass(frozen=True)
class DiffPIR(X0Loop):
    """Proximal data step weighted by the noise, noise recomputed from its result (Zhu et al., NTIRE 2023)."""

    sigma_max: float = 1.0
    eta: float = 0.7
    noise_scale: float = 1.0
    effective_noise: bool = True
    iterations: int = 1
    cg_iterations: int = 20
    tv: float = 0.0


@samplers.register("ddnm", family="diffusion")
@dataclass(frozen=True)
class DDNM(X0Loop):
    """Range and null space: the prior fills only what the data cannot speak to (Wang et al., ICLR 2023)."""

    sigma_max: float = 1.0
    eta: float = 0.85
    noise_scale: float = 1.0
    data_step: str = "range"
    cg_iterations: int = 10
    tv: float = 0.0
