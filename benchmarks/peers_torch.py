"""The same VAE in PyTorch, with everything that makes it faster as an option."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TorchVAE(nn.Module):
    """Layer for layer the networks of `vae_lib.networks` for 28 x 28 images."""

    def __init__(self, latent_dim: int = 2, filters: int = 32, hidden: int = 256) -> None:
        super().__init__()
        flat = 7 * 7 * filters
        self.encoder = nn.Sequential(
            nn.Conv2d(1, filters, 4, 4), nn.GELU(),
            nn.Conv2d(filters, 2 * filters, 3, padding=1), nn.GELU(),
            nn.Conv2d(2 * filters, filters, 1), nn.GELU(),
            nn.Flatten(),
            nn.Linear(flat, hidden), nn.GELU(),
            nn.Linear(hidden, 2 * latent_dim),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, flat), nn.GELU(),
            nn.Unflatten(1, (filters, 7, 7)),
            nn.Conv2d(filters, 2 * filters, 3, padding=1), nn.GELU(),
            nn.Conv2d(2 * filters, 16, 3, padding=1),
            nn.PixelShuffle(4),
        )  # fmt: skip

    @staticmethod
    def textbook() -> TorchVAE:
        """The networks of the TensorFlow CVAE tutorial's recipe."""
        model = TorchVAE()
        model.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2), nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 6 * 64, 4),
        )  # fmt: skip
        model.decoder = nn.Sequential(
            nn.Linear(2, 7 * 7 * 32), nn.ReLU(),
            nn.Unflatten(1, (32, 7, 7)),
            nn.ConvTranspose2d(32, 64, 3, 2, padding=1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, 2, padding=1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 3, padding=1),
        )  # fmt: skip
        return model

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        z_mean, z_log_var = self.encoder(x).float().chunk(2, dim=1)
        z = z_mean + torch.exp(0.5 * z_log_var) * torch.randn_like(z_mean)
        nll = F.binary_cross_entropy_with_logits(self.decoder(z).float(), x, reduction="sum")
        kl = -0.5 * (1 + z_log_var - z_mean.square() - z_log_var.exp()).sum()
        return (nll + kl) / len(x)


def make(
    images: np.ndarray,
    batch: int,
    textbook: bool,
    *,
    fused: bool = True,
    channels_last: bool = False,
    compiled: bool | str = False,
    bfloat16: bool = False,
):
    """``compiled`` may name a mode of ``torch.compile``; ``bfloat16`` is autocast's, with the losses in float32."""
    model = TorchVAE.textbook() if textbook else TorchVAE()
    data = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        data = data.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return model.loss(x)

    if compiled:
        loss_of = torch.compile(loss_of, mode=compiled if isinstance(compiled, str) else None)

    def run(steps: int) -> float:
        order = torch.randperm(len(data))
        for i in range(steps):
            x = data[order[i * batch : (i + 1) * batch]]
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(x)
            loss.backward()
            optimizer.step()
        return loss.item()

    run.parameters = sum(p.numel() for p in model.parameters())
    return run
