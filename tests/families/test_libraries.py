"""Networks that diffusers and MONAI saved give, as priors, the clean slices of their own libraries.

The oracle is the library's scheduler: its ``step`` says the clean slice that it takes from the network's answer.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.importing import FACTS, UNIT, assert_close, hounsfield, imported, saved
from medrecon.errors import InputError
from medrecon.families.importing import Facts
from medrecon.prior import NetworkPrior

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SIZE = 16
STEPS = (30, 400)


def randomised(network: nn.Module) -> nn.Module:
    """Weights of ordinary size everywhere, the layers that start at zero included."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5)
            if value.ndim == 1:
                value.mul_(0.2).add_(0.8)
    return network.eval()


def noisy_slices() -> tuple[Tensor, Tensor]:
    return 2 * torch.rand(2, 1, SIZE, SIZE) - 1, torch.randn(2, 1, SIZE, SIZE)


def check(prior: NetworkPrior, facts: Facts, seen: Tensor, kept: float, clean: Tensor) -> None:
    """``seen = kept * (x + sigma noise)`` as the library mixes it, and the clean slice that it tells."""
    sigma = (1 / kept**2 - 1) ** 0.5
    assert facts.network_range is not None
    unit = 3000 / (facts.network_range[1] - facts.network_range[0])
    noisy = hounsfield(seen / kept, facts)
    # the libraries' noise levels are sums in single precision
    assert_close(prior.denoise(noisy, sigma * unit), hounsfield(clean, facts), noisy, 1e-3)


# --- diffusers -------------------------------------------------------------------------------------------------
def diffusers_network() -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    return randomised(
        diffusers.UNet2DModel(
            sample_size=SIZE, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        )
    )  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "zero"])
def test_a_pipeline_of_diffusers(tmp_path: Path, prediction: str, schedule: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    network = diffusers_network()
    name, zero = ("linear", True) if schedule == "zero" else (schedule, False)
    scheduler = diffusers.DDPMScheduler(
        beta_schedule=name, prediction_type=prediction, clip_sample=False, rescale_betas_zero_snr=zero
    )
    diffusers.DDPMPipeline(network, scheduler).save_pretrained(tmp_path / "pipeline")
    prior = imported(tmp_path / "pipeline", replace(FACTS, network_range=None))
    clean, noise = noisy_slices()
    for step in STEPS:
        seen = scheduler.add_noise(clean, noise, torch.tensor([step, step]))
        with torch.no_grad():
            answer = network(seen, step).sample
        told = scheduler.step(answer, step, seen).pred_original_sample
        check(prior, FACTS, seen, float(scheduler.alphas_cumprod[step] ** 0.5), told)


def test_a_flow_of_diffusers(tmp_path: Path) -> None:
    """One Euler step to the end is the clean slice."""
    diffusers = pytest.importorskip("diffusers")
    network = diffusers_network()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    network.save_pretrained(tmp_path / "pipeline" / "unet")  # type: ignore[operator]
    scheduler.save_pretrained(tmp_path / "pipeline" / "scheduler")
    prior = imported(tmp_path / "pipeline", replace(FACTS, network_range=None))
    clean, noise = noisy_slices()
    for share in (0.05, 0.6):
        scheduler.set_timesteps(sigmas=[share])
        seen = (1 - share) * clean + share * noise
        with torch.no_grad():
            answer = network(seen, scheduler.timesteps[:1]).sample
        told = scheduler.step(answer, scheduler.timesteps[0], seen).prev_sample
        noisy = hounsfield(seen / (1 - share), FACTS)
        assert_close(prior.denoise(noisy, share / (1 - share) * 1500), hounsfield(told, FACTS), noisy)


def test_earlier_names_of_attention_in_diffusers(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    network, folder = diffusers_network(), tmp_path / "pipeline"
    network.save_pretrained(folder / "unet", safe_serialization=False)  # type: ignore[operator]
    diffusers.DDPMScheduler().save_pretrained(folder / "scheduler")
    now = imported(folder, FACTS)
    earlier = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {
        re.sub(r"to_[qkv]|to_out\.0", lambda match: earlier[match[0]], key): value
        for key, value in network.state_dict().items()
    }
    saved(renamed, folder / "unet" / "diffusion_pytorch_model.bin")
    (tmp_path / "pipeline.safetensors").unlink()
    (tmp_path / "pipeline.json").unlink()
    then = imported(folder, FACTS)
    noisy = 1000 * torch.randn(1, 1, SIZE, SIZE)
    assert torch.equal(now.denoise(noisy, 300.0), then.denoise(noisy, 300.0))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("unet", {"time_embedding_type": "fourier"}, "count time steps"),
        ("unet", {"out_channels": 2}, "as many channels"),
        ("unet", {"_class_name": "UNet2DConditionModel"}, "no configuration of a UNet2DModel"),
        ("scheduler", {"_class_name": "EDMEulerScheduler", "beta_schedule": None}, "noise levels of this scheduler"),
        ("scheduler", {"prediction_type": "x"}, "noise levels of this scheduler"),
    ],
)
def test_folders_of_diffusers_that_are_not_read(tmp_path: Path, part: str, change: dict, message: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    diffusers.DDPMPipeline(diffusers_network(), diffusers.DDPMScheduler()).save_pretrained(tmp_path / "pipeline")
    file = tmp_path / "pipeline" / part / ("config.json" if part == "unet" else "scheduler_config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=message):
        imported(tmp_path / "pipeline", FACTS)


# --- MONAI -----------------------------------------------------------------------------------------------------
CONFIG = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_res_blocks": 1, "channels": [16, 32],
    "attention_levels": [False, True], "norm_num_groups": 8, "num_head_channels": 16,
}  # fmt: skip


def monai_network(**changes: object) -> nn.Module:
    pytest.importorskip("monai")
    pytest.importorskip("einops")
    with warnings.catch_warnings(action="ignore"):
        from monai.networks.nets import DiffusionModelUNet
    return randomised(DiffusionModelUNet(**(CONFIG | changes)))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear_beta", "scaled_linear_beta", "sigmoid_beta", "cosine"])
@pytest.mark.parametrize("layout", ["bundle", "state dict"])
def test_a_network_of_monai(tmp_path: Path, prediction: str, schedule: str, layout: str) -> None:
    network = monai_network()
    from monai.networks.schedulers import DDPMScheduler

    scheduler = DDPMScheduler(1000, schedule, prediction_type=prediction, clip_sample=False)
    if layout == "bundle":
        path = bundle(tmp_path / "bundle", network, {"_target_": "DDPMScheduler", "num_train_timesteps": 1000,
                                                     "schedule": schedule, "prediction_type": prediction})  # fmt: skip
        prior = imported(path, UNIT)
    else:
        path = saved(network.state_dict(), tmp_path / "model.pt")
        predicts = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}[prediction]
        settings = {"betas": schedule.removesuffix("_beta"), "predicts": predicts}
        prior = imported(path, UNIT, head_channels=16, norm_num_groups=8, **settings)
    clean, noise = noisy_slices()
    for step in STEPS:
        seen = scheduler.add_noise(clean, noise, torch.tensor([step, step]))
        with torch.no_grad():
            answer = network(seen, torch.tensor([step, step]))
        _, told = scheduler.step(answer, step, seen)
        check(prior, UNIT, seen, float(scheduler.alphas_cumprod[step] ** 0.5), told)


def bundle(folder: Path, network: nn.Module, scheduler: dict) -> Path:
    """As MONAI writes one: references by name, weights in models/."""
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    inference = {
        "channels": CONFIG["channels"],
        "network_def": CONFIG | {"_target_": "monai.networks.nets.DiffusionModelUNet", "channels": "@channels"},
        "network": "$@network_def.to(@device)",
        "noise_scheduler": scheduler,
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1"}))
    saved(network.state_dict(), folder / "models" / "model.pt")
    return folder


def test_a_flow_of_monai(tmp_path: Path) -> None:
    """Its velocity points from the noise to the clean slice."""
    network = monai_network()
    from monai.networks.schedulers import RFlowScheduler

    scheduler = RFlowScheduler()
    scheduler.set_timesteps(10)
    prior = imported(bundle(tmp_path / "bundle", network, {"_target_": "RFlowScheduler"}), UNIT)
    clean, noise = noisy_slices()
    for step in (50, 600):
        seen = scheduler.add_noise(clean, noise, torch.tensor([step, step]))
        with torch.no_grad():
            answer = network(seen, torch.tensor([step, step]))
        _, told = scheduler.step(answer, step, seen)
        share = step / 1000
        noisy = hounsfield(seen / (1 - share), UNIT)
        assert_close(prior.denoise(noisy, share / (1 - share) * 3000), hounsfield(told, UNIT), noisy)


def test_variants_and_earlier_names_of_monai(tmp_path: Path) -> None:
    """Resampling inside blocks; the names of MONAI GenerativeModels."""
    noisy = 1000 * torch.randn(1, 1, SIZE, SIZE)
    said = {"head_channels": 16, "norm_num_groups": 8}
    within = monai_network(resblock_updown=True)
    prior = imported(saved(within.state_dict(), tmp_path / "within.pt"), UNIT, **said)
    assert torch.isfinite(prior.denoise(noisy, 300.0)).all()
    network = monai_network()
    now = imported(saved(network.state_dict(), tmp_path / "now.pt"), UNIT, **said)
    renamed = {
        key.replace(".attn.to_", ".to_").replace(".attn.out_proj.", ".proj_attn.").replace("postconv", "conv"): value
        for key, value in network.state_dict().items()
    }
    assert set(renamed) != set(network.state_dict())
    then = imported(saved(renamed, tmp_path / "then.pt"), UNIT, **said)
    assert torch.equal(now.denoise(noisy, 300.0), then.denoise(noisy, 300.0))


def test_what_monai_would_compute_is_not_computed(tmp_path: Path) -> None:
    path = bundle(tmp_path / "bundle", monai_network(), {"_target_": "DDPMScheduler"})
    file = path / "configs" / "inference.json"
    content = json.loads(file.read_text())
    content["channels"] = "$[16, 32]"
    file.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"inference.json: the bundle computes an argument.*no code of a bundle is run"
    ):
        imported(path, UNIT)


def test_a_state_dict_of_monai_needs_the_channels_of_a_head(tmp_path: Path) -> None:
    path = saved(monai_network().state_dict(), tmp_path / "x.pt")
    with pytest.raises(InputError, match="--set head_channels=N"):
        imported(path, UNIT)


def test_conditioned_networks_of_monai_are_refused(tmp_path: Path) -> None:
    conditioned = monai_network(with_conditioning=True, cross_attention_dim=4)
    with pytest.raises(InputError, match="wants a context"):
        imported(saved(conditioned.state_dict(), tmp_path / "x.pt"), UNIT, head_channels=16)
    classes = monai_network(num_class_embeds=3)
    with pytest.raises(InputError, match="class label"):
        imported(saved(classes.state_dict(), tmp_path / "y.pt"), UNIT, head_channels=16)
