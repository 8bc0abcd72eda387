"""Temperature: one number a noise level that divides the logits, so that a classifier is as sure as it is right."""

import math

import torch
from torch import Tensor

from .measurements import Knots


def temperature_at(log_snr: Tensor, knots: Knots) -> Tensor:
    """The temperature at each log-SNR [B]: straight lines between the knots in log(temperature), level beyond them."""
    places = torch.tensor([place for place, _ in knots], dtype=log_snr.dtype, device=log_snr.device)
    logs = torch.tensor([math.log(value) for _, value in knots], dtype=log_snr.dtype, device=log_snr.device)
    if len(knots) == 1:
        return logs.exp().expand(log_snr.shape)
    above = torch.searchsorted(places, log_snr.contiguous()).clamp(1, len(knots) - 1)
    share = ((log_snr - places[above - 1]) / (places[above] - places[above - 1])).clamp(0, 1)
    return torch.lerp(logs[above - 1], logs[above], share).exp()
