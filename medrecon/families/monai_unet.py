"""``DiffusionModelUNet`` of MONAI: a bundle's folder, or a state dict alone; MONAI GenerativeModels' older names too.

The library itself builds the network. A bundle's configuration is read as plain values: nothing that it would evaluate
is evaluated. From a state dict alone the architecture is inferred, but for the channels of an attention head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from medrecon.errors import InputError, MissingDependency
from medrecon.families.base import (
    Checkpoint,
    CheckpointFamily,
    Found,
    Settings,
    families,
    refuse_3d,
    refuse_class_conditional,
    vp_noise,
)

_PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_RENAMED = (
    (r"(attentions\.\d+|attention)\.(to_[qkv])\.", r"\1.attn.\2."),
    (r"(attentions\.\d+|attention)\.proj_attn\.", r"\1.attn.out_proj."),
    (r"upsampler\.conv\.", "upsampler.postconv."),
)
_PART = r"(resnets\.\d+|resnet_[12]|attentions\.\d+|attention|downsampler|upsampler)"


class _Broadcast(nn.Module):
    """One label for all slices, as the library wants them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.model(x, label.expand(len(x)))


@families.register("monai")
class MonaiFamily(CheckpointFamily):
    """DiffusionModelUNet of MONAI (a bundle, or a .pt)."""

    names = (r"conv_in\.conv\.(weight|bias)", r"time_embed\.[02]\.(weight|bias)", r"out\.(0|2\.conv)\.(weight|bias)",
             r"class_embedding\.weight",
             rf"(down_blocks\.\d+|middle_block|up_blocks\.\d+)\.{_PART}\."
             r"(norm|norm[12]|conv[12]?\.conv|op\.conv|conv\.conv|postconv\.conv|time_emb_proj|skip_connection\.conv|"
             r"attn\.(to_[qkv]|out_proj|to_qkv|qkv)|to_[qkv]|proj_attn|proj_in\..*|proj_out\..*|transformer_blocks\..*)"
             r"(\.(weight|bias))?")  # fmt: skip

    @classmethod
    def read(cls, checkpoint: Checkpoint, settings: Settings) -> Found:
        """From a bundle's configuration where there is one, else from names and shapes."""
        refuse_3d(checkpoint, "conv_in.conv.weight")
        refuse_class_conditional(checkpoint, r"class_embedding\.")
        if checkpoint.has(r".*\.transformer_blocks\."):
            raise InputError("the network wants a context to be conditioned on", where=checkpoint.name)
        weights = {_current(key): value for key, value in checkpoint.weights.items()}
        known = Checkpoint(checkpoint.name, weights, checkpoint.content, checkpoint.configs)
        config = _from_bundle(known) or _structure(known, settings)
        predicts, noise = _parameterisation(known, settings)
        channels = known.shape("conv_in.conv.weight")[1]
        if known.shape("out.2.conv.weight")[0] != channels:
            raise InputError("the network does not give as many channels as it takes", where=checkpoint.name)
        return Found(config, {f"model.{key}": value for key, value in weights.items()}, predicts, noise, channels)

    @classmethod
    def network(cls, config: dict) -> nn.Module:
        """The library's own. Raises MissingDependency where it, or what its attention needs, is not installed."""
        try:
            import einops  # noqa: F401 - attention of MONAI needs it, MONAI alone does not bring it
            from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
        except ImportError as error:
            raise MissingDependency("monai and einops", "priors", "a prior that is a network of MONAI") from error
        return _Broadcast(DiffusionModelUNet(**config))

    @classmethod
    def multiple(cls, config: dict) -> int:
        """The resolution is halved between blocks."""
        return 2 ** (len(config["channels"]) - 1)


def _current(key: str) -> str:
    """The present name of a layer that MONAI GenerativeModels called otherwise."""
    for earlier, now in _RENAMED:
        key = re.sub(earlier, now, key)
    return key


def _parts(content: object) -> Iterator[dict]:
    """All objects of a configuration, however deep."""
    if isinstance(content, dict):
        yield content
        for value in content.values():
            yield from _parts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _parts(value)


def _component(checkpoint: Checkpoint, suffix: str) -> dict | None:
    """Arguments of the first component of a bundle whose class has this ending, references followed.

    Raises InputError for arguments that MONAI would evaluate: code of the file is not run.
    """
    for name, content in checkpoint.configs.items():
        for part in _parts(content):
            if not str(part.get("_target_", "")).endswith(suffix):
                continue
            arguments = {}
            for key, value in part.items():
                if key.startswith("_"):
                    continue
                for _ in range(8):  # a reference to a reference ends somewhere
                    if isinstance(value, str) and value.startswith("@") and isinstance(content, dict):
                        value = content.get(value.removeprefix("@"), "$")
                if "$" in str(value) or str(value).startswith("@"):
                    raise InputError(
                        "the bundle computes an argument of its network", where=name, found=f"{key}: {part[key]}",
                        hint="Write the value itself into the configuration: no code of a bundle is run.",
                    )  # fmt: skip
                arguments[key] = value
            return arguments
    return None


def _from_bundle(checkpoint: Checkpoint) -> dict | None:
    config = _component(checkpoint, "DiffusionModelUNet")
    if config is not None and "num_channels" in config:  # the name in MONAI GenerativeModels
        config["channels"] = config.pop("num_channels")
    return config


def _parameterisation(checkpoint: Checkpoint, settings: Settings) -> tuple[str, dict]:
    """What the network predicts, and its noise levels."""
    if (flow := _component(checkpoint, "RFlowScheduler")) is not None:
        return "flow_back", {"kind": "flow", "steps": flow.get("num_train_timesteps", 1000)}
    scheduler: Mapping = _component(checkpoint, "Scheduler") or {}
    schedule = str(scheduler.get("schedule", "linear_beta")).removesuffix("_beta")
    noise = vp_noise(settings, schedule)
    noise |= {key: scheduler[key] for key in ("beta_start", "beta_end") if key in scheduler}
    noise["steps"] = scheduler.get("num_train_timesteps", noise["steps"])
    told = settings.text("predicts", _PREDICTIONS.get(str(scheduler.get("prediction_type", "epsilon")), "eps"))
    if told in ("flow", "flow_back"):
        noise = {"kind": "flow", "steps": noise["steps"]}
    return told, noise


def _structure(checkpoint: Checkpoint, settings: Settings) -> dict:
    """The architecture from names and shapes. Raises InputError unless the channels of a head are said."""
    head = settings.whole("head_channels", 0)
    if head < 1:
        raise InputError(
            "a state dict of MONAI does not tell the channels of an attention head", where=checkpoint.name,
            hint="State num_head_channels of the training: --set head_channels=N, or import the bundle's folder.",
        )  # fmt: skip
    levels = range(checkpoint.count(r"down_blocks\.(\d+)\."))
    return {
        "spatial_dims": 2,
        "in_channels": checkpoint.shape("conv_in.conv.weight")[1],
        "out_channels": checkpoint.shape("out.2.conv.weight")[0],
        "channels": [checkpoint.shape(f"down_blocks.{n}.resnets.0.conv1.conv.weight")[0] for n in levels],
        "num_res_blocks": [checkpoint.count(rf"down_blocks\.{n}\.resnets\.(\d+)\.") for n in levels],
        "attention_levels": [checkpoint.has(rf"down_blocks\.{n}\.attentions\.") for n in levels],
        "num_head_channels": head,
        "norm_num_groups": settings.whole("norm_num_groups", 32),
        "resblock_updown": "down_blocks.0.downsampler.conv1.conv.weight" in checkpoint,
        "include_fc": "middle_block.attention.attn.out_proj.weight" in checkpoint,
        "use_combined_linear": checkpoint.has(r"middle_block\.attention\.attn\.(to_)?qkv\."),
    }
