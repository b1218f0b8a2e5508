"""``UNet2DModel`` of diffusers, as the folder of a pipeline: DM4CT, EFMCT and many others.

The library itself builds the network from the configuration beside the weights; the noise levels and the kind of
prediction come from the scheduler's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from medrecon.errors import InputError, MissingDependency
from medrecon.families.base import Checkpoint, CheckpointFamily, Found, Settings, families, refuse_class_conditional

_PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
_EARLIER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # names of attention layers


class _Answer(nn.Module):
    """The tensor out of the library's answer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.model(x, label).sample


@families.register("diffusers")
class DiffusersFamily(CheckpointFamily):
    """UNet2DModel of diffusers (a folder)."""

    names = (r"conv_in\.(weight|bias)", r"time_embedding\.linear_[12]\.(weight|bias)", r"time_proj\.weight",
             r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.(resnets|attentions|downsamplers|upsamplers)\.\d\."
             r"(norm[12]|conv[12]?|time_emb_proj|conv_shortcut|group_norm|to_[qkv]|to_out\.0|query|key|value|proj_attn)"
             r"\.(weight|bias)",
             r"class_embedding\..*", r"(conv_norm_out|conv_out)\.(weight|bias)")  # fmt: skip

    @classmethod
    def read(cls, checkpoint: Checkpoint, settings: Settings) -> Found:
        """Everything from the two configurations. The usual range is -1 to 1."""
        config = dict(_config(checkpoint, "UNet2DModel"))
        refuse_class_conditional(checkpoint, r"class_embedding\.")
        if config.get("time_embedding_type", "positional") != "positional":
            raise InputError(
                "only networks that count time steps are read", where=checkpoint.name,
                found=config["time_embedding_type"], expected="positional",
            )  # fmt: skip
        config = {key: value for key, value in config.items() if not key.startswith("_")}
        channels = config.get("in_channels")
        if channels != config.get("out_channels") or not isinstance(channels, int):
            raise InputError(
                "the network does not give as many channels as it takes", where=checkpoint.name,
                found=f"{channels} in, {config.get('out_channels')} out",
            )  # fmt: skip
        predicts, noise = _parameterisation(checkpoint, _config(checkpoint, "Scheduler"))
        weights = {f"model.{_current(key)}": value for key, value in checkpoint.weights.items()}
        return Found(config, weights, predicts, noise, channels, (-1.0, 1.0))

    @classmethod
    def network(cls, config: dict) -> nn.Module:
        """The library's own. Raises MissingDependency where it is not installed."""
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise MissingDependency("diffusers", "priors", "a prior that is a network of diffusers") from error
        return _Answer(UNet2DModel.from_config(config))

    @classmethod
    def multiple(cls, config: dict) -> int:
        """The resolution is halved between blocks."""
        return 2 ** (len(config["block_out_channels"]) - 1)


def _current(key: str) -> str:
    """The present name of a layer that earlier versions of the library called otherwise."""
    return re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{_EARLIER[m[2]]}.", key)


def _config(checkpoint: Checkpoint, kind: str) -> Mapping[str, object]:
    """The configuration whose class has this name, or ends in it."""
    for content in checkpoint.configs.values():
        if isinstance(content, dict) and str(content.get("_class_name", "")).endswith(kind):
            return content
    raise InputError(
        f"there is no configuration of a {kind}", where=checkpoint.name, found=sorted(checkpoint.configs) or "no .json",
        hint="Import the whole folder that diffusers saved: model_index.json, unet/ and scheduler/.",
    )  # fmt: skip


def _parameterisation(checkpoint: Checkpoint, scheduler: Mapping[str, object]) -> tuple[str, dict]:
    """What the network predicts, and its noise levels."""
    name, steps = str(scheduler["_class_name"]), scheduler.get("num_train_timesteps", 1000)
    if name.startswith("FlowMatch"):
        return "flow", {"kind": "flow", "steps": steps}
    predicts = _PREDICTIONS.get(str(scheduler.get("prediction_type", "epsilon")))
    betas = scheduler.get("trained_betas") or _BETAS.get(str(scheduler.get("beta_schedule")))
    if predicts is None or betas is None:
        raise InputError(
            "the noise levels of this scheduler are not known", where=checkpoint.name,
            found=f"{name}, beta_schedule {scheduler.get('beta_schedule')}, "
            f"prediction_type {scheduler.get('prediction_type')}",
            expected=f"FlowMatch..., or one of {', '.join(_BETAS)} with {', '.join(_PREDICTIONS)}",
        )  # fmt: skip
    noise = {"kind": "vp", "betas": betas, "steps": steps}
    noise |= {key: scheduler[key] for key in ("beta_start", "beta_end") if key in scheduler}
    if scheduler.get("rescale_betas_zero_snr"):
        noise["zero_terminal"] = True
    return predicts, noise
