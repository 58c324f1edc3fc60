"""Head of `CausalTokenDiffusion`: a small MLP that denoises single tokens."""

import torch
from torch import Tensor, nn

from .conditioning import ConditionMemo, Conditions, embed_conditions
from .layers import NORM_EPS, ACDiTMLP, FinalLayer, ModulatedNorm, TimestepEmbedder
from .linear import Linear


class TokenHeadLayer(nn.Module):
    """Residual MLP with adaLN-Zero."""

    def __init__(self, size: int):
        super().__init__()
        self.norm = ModulatedNorm(size, eps=NORM_EPS)
        self.mlp = ACDiTMLP(size, size)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(size, 3 * size))

    def forward(self, x: Tensor, vectors: Tensor) -> Tensor:
        """Compute the output for tokens (R, 1, size) and their conditioning vectors (R, size)."""
        shift, scale, gate = self.adaLN_modulation(vectors)[:, None].chunk(3, dim=-1)
        return torch.addcmul(x, gate, self.mlp(self.norm(x, scale, shift)))


class TokenHead(nn.Module):
    """MLP that denoises single tokens, conditioned on the state of the backbone and on the timestep.

    Args:
        channels: Number of channels of a token.
        hidden_size: Hidden size of the backbone.
        size: Hidden size of the head.
        num_layers: Number of layers of the head.
    """

    def __init__(self, channels: int, hidden_size: int, size: int, num_layers: int):
        super().__init__()
        self.state_embedder = Linear(hidden_size, size)
        self.token_embedder = Linear(channels, size)
        self.time_embedder = TimestepEmbedder(size)
        self.layers = nn.ModuleList(TokenHeadLayer(size) for _ in range(num_layers))
        self.final_layer = FinalLayer(size, channels, conditioned=True)

    def forward(
        self, noised: Tensor, timestep: Tensor, condition: Tensor, memo: ConditionMemo | None
    ) -> Tensor:
        """Predict noised tokens.

        Args:
            noised: Noised tokens (N, M, 1, C).
            timestep: Timesteps (N, M).
            condition: Outputs of `state_embedder` for the tokens, (N, M, size).
            memo: Memo of a generation, which holds the embeddings of timesteps.

        Returns:
            Predictions (N, M, 1, C).
        """
        x = self.token_embedder(noised.flatten(0, 1))  # (N M, 1, size)
        times = embed_conditions(self.time_embedder, None, None, noised, timestep, None, None, memo, x.dtype)
        assert times is not None
        vectors = times.vectors + condition.flatten(0, 1)  # (N M, size)
        for layer in self.layers:
            x = layer(x, vectors)
        return self.final_layer(x, Conditions(vectors)).unflatten(0, noised.shape[:2])
