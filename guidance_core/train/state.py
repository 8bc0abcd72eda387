"""What the steps of a training run change, in one object, with one way to save it and one to restore it."""

import copy
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..classifier.latent_encoder import LatentEncoder
from .checkpoint import Damaged, Saved
from .settings import TrainSettings
from .validation import Validation, ValidationBin

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW, for each parameter once it has made a step


@dataclass
class TrainState:
    """Where a run is. average: the running average (EMA) of the network's weights, which becomes the classifier.

    loss, accuracy: of the last batch. validation: of the last step, where it had one. best, best_weights: step, loss
    and accuracy of the best validation so far, and the averaged weights that had it; waited: validations since.
    """

    network: LatentEncoder
    average: LatentEncoder
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    step: int = 0
    loss: float = math.nan
    accuracy: float = math.nan
    validation: Validation | None = None
    best: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0

    @classmethod
    def begin(cls, parameters: dict[str, Any], settings: TrainSettings, device: torch.device) -> "TrainState":
        """Before the first step; parameters: of the network, whose weights come from the seed."""
        with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global generator
            torch.manual_seed(int(settings.seed))
            network = LatentEncoder(**parameters)
        # convolutions are faster so; torch's types of Module.to leave memory_format out
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(
            network.parameters(),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        return cls(
            network,
            copy.deepcopy(network).requires_grad_(False).eval(),
            optimizer,
            torch.amp.GradScaler("cuda", enabled=settings.dtype_on(device) == torch.float16),
            torch.Generator(device).manual_seed(int(settings.seed)),
        )

    def done(self, settings: TrainSettings) -> bool:
        """Whether all steps are made, or patience is at its end."""
        return self.step == settings.steps or 0 < settings.patience <= self.waited

    def judge(self, validation: Validation) -> None:
        """Take in a validation of the averaged weights: they are kept where it is the best."""
        self.validation = validation
        self.waited += 1
        if validation.best:
            self.waited = 0
            self.best = {"step": self.step, "loss": validation.loss, "accuracy": validation.accuracy}
            self.best_weights = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}

    def best_network(self) -> LatentEncoder:
        """A copy with the best weights; the newest average where nothing was validated."""
        network = copy.deepcopy(self.average)
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as its file gives it back
        if self.best_weights:
            network.load_state_dict(self.best_weights)
        return network

    def save(self) -> Saved:
        """All of it as tensors and plain values."""
        moments = self.optimizer.state_dict()["state"]
        tensors = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best_weights,
            "optimizer": {f"{i}.{name}": moment for i, named in moments.items() for name, moment in named.items()},
            "generator": {"state": self.generator.get_state()},
        }
        progress = {name: getattr(self, name) for name in ("step", "loss", "accuracy", "best", "waited")}
        progress["validation"] = asdict(self.validation) if self.validation else None
        progress["scaler"] = self.scaler.state_dict()
        return Saved(tensors, progress)

    def restore(self, saved: Saved, steps: int) -> None:
        """Go on from what `save` gave. Raises Damaged, with the state half restored, where its parts do not fit."""
        try:
            self._restore_progress(saved.progress, steps)
            self._restore_tensors(saved.tensors)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise Damaged(str(error)) from error

    def _restore_progress(self, progress: dict[str, Any], steps: int) -> None:
        step, waited, best = progress["step"], progress["waited"], progress["best"]
        _require(type(step) is int and 1 <= step <= steps, f"step {step} of {steps}")
        _require(type(waited) is int and 0 <= waited <= step, f"{waited} validations waited at step {step}")
        _require(not best or best.keys() == {"step", "loss", "accuracy"}, "the best validation is not described")
        _require_numbers([progress["loss"], progress["accuracy"], *best.values()], "a figure")
        self.step, self.waited, self.best = step, waited, dict(best)
        self.loss, self.accuracy = float(progress["loss"]), float(progress["accuracy"])
        if progress["validation"] is not None:
            bins = tuple(ValidationBin(**part) for part in progress["validation"]["bins"])
            self.validation = Validation(**progress["validation"] | {"bins": bins})
            figures = [value for part in bins for value in asdict(part).values()]
            _require_numbers([*figures, self.validation.loss, self.validation.accuracy], "a figure of the validation")
        scaler = progress["scaler"]
        _require(scaler.keys() == self.scaler.state_dict().keys(), "the loss scaling is not described")
        _require_numbers(list(scaler.values()), "the loss scaling")
        self.scaler.load_state_dict(scaler)

    def _restore_tensors(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        expected = self.average.state_dict()
        best = tensors.get("best", {})
        _require(bool(best) == bool(self.best), "the best weights are missing, or nobody's")
        for group in (tensors["network"], tensors["average"], *([best] if best else [])):
            _require(group.keys() == expected.keys(), "it has the weights of another network")
            for name, tensor in group.items():
                _require_like(tensor, expected[name], name)
        self.network.load_state_dict(tensors["network"])
        self.average.load_state_dict(tensors["average"])
        self.best_weights = {name: tensor.to(expected[name].device) for name, tensor in best.items()}
        self._restore_moments(tensors.get("optimizer", {}))
        self.generator.set_state(tensors["generator"]["state"])

    def _restore_moments(self, flat: dict[str, Tensor]) -> None:
        """The optimizer's; there are none while fp16 has skipped every step."""
        weights = list(self.network.parameters())
        wanted = [f"{i}.{name}" for i in range(len(weights)) for name in MOMENTS]
        _require(not flat or sorted(flat) == sorted(wanted), "it has the moments of another optimizer")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, moment in flat.items():
            index, _, name = key.partition(".")
            weight = weights[int(index)]
            if name == "step":
                _require(moment.ndim == 0 and moment.is_floating_point(), f"the optimizer's {key} is no number")
            else:
                _require_like(moment, weight, f"the optimizer's {key}")
                moment = torch.empty_like(weight).copy_(moment)  # in memory as the weight is, as `fused` expects
            moments.setdefault(int(index), {})[name] = moment
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _require_like(tensor: Tensor, wanted: Tensor, name: str) -> None:
    _require(
        (tensor.dtype, tensor.shape) == (wanted.dtype, wanted.shape),
        f"'{name[:80]}' is {tensor.dtype} {list(tensor.shape)}, expected {wanted.dtype} {list(wanted.shape)}",
    )


def _require_numbers(values: list[Any], name: str) -> None:
    _require(all(isinstance(v, int | float) and not isinstance(v, bool) for v in values), f"{name} is no number")
