"""What queries of a causal stack see, and grouped-query attention over it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AttentionMask:
    """What queries see, made once for all layers of a kind."""

    mask: Tensor | None  # bool or float, broadcastable to [B, 1, T, K] or, grouped, [B, 1, G·T, K]
    causal: bool  # plain causal attention of T queries over T keys
    grouped: bool  # queries that share keys are laid side by side: G·T queries per key head


def make_mask(
    mask: Tensor | None,
    causal: bool,
    T: int,
    K: int,
    group: int,
    device: torch.device | str,
    window: int = 0,
    places: tuple[Tensor, Tensor] | None = None,
) -> AttentionMask:
    """Masks for T queries over K keys, the last T of them the queries' own positions.

    A mask given says everything but the window; ``causal`` counts only without one. Nothing is
    built for a single query, for full attention, and for causal attention from the start.

    Args:
        mask: As in ``LlamaStack.forward``.
        causal: Whether a query sees only keys up to its own.
        T: Queries.
        K: Keys.
        group: G, queries that share a key head.
        device: Where to make a mask.
        window: Newest positions that a query sees, its own among them; 0 = all.
        places: Rotary positions of the queries [T] or [B, T] and of the keys [K] or [B, K], which
            the window counts by; None: they are consecutive.
    """
    if window and K > window:
        mask = within(mask, causal, T, K, window, device, places)
    if mask is None and causal and T > 1:
        if K == T:
            return AttentionMask(None, causal=True, grouped=False)
        mask = torch.ones(T, K, dtype=torch.bool, device=device).tril(K - T)
    if mask is not None and group > 1 and T > 1 and mask.shape[-2] > 1:
        if T > 256:  # repeating the heads costs less than a mask of G·T rows
            return AttentionMask(mask, causal=False, grouped=False)
        rows = mask.expand(*mask.shape[:-2], T, K).unsqueeze(-3)  # [.., 1, T, K]
        mask = rows.expand(*rows.shape[:-3], group, T, K).flatten(-3, -2)  # [.., G·T, K]
    return AttentionMask(mask, causal=False, grouped=group > 1)


def within(
    mask: Tensor | None,
    causal: bool,
    T: int,
    K: int,
    window: int,
    device: torch.device | str,
    places: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """A mask, or the causal one, without what lies before the window; [1 or B, 1, T, K]."""
    if mask is None or places is None:
        keys = torch.arange(K, device=device)
        queries = keys[K - T :]
    else:
        queries, keys = places
    near = queries.unsqueeze(-1) - keys.unsqueeze(-2) < window  # [T, K] or [B, T, K]
    near = near.unsqueeze(-3) if near.dim() == 3 else near
    if mask is None:
        return near.tril(K - T) if causal else near
    if mask.dtype == torch.bool:
        return mask & near
    return mask.masked_fill(~near, torch.finfo(mask.dtype).min)


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    seen: AttentionMask,
    scale: float | None = None,
    softcap: float = 0.0,
) -> Tensor:
    """Grouped-query attention: query [B, H, T, dh] over keys and values [B, Hkv, K, dh].

    Args:
        query: Queries.
        keys: Keys.
        values: Values.
        seen: What they see.
        scale: Of the scores; None: dh ** -0.5.
        softcap: Bound of the scores, by tanh; 0: none.
    """
    if softcap:
        return _attend_capped(query, keys, values, seen, scale, softcap)
    if not seen.grouped:
        return F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=seen.mask,
            is_causal=seen.causal,
            scale=scale,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
    B, H, T, dh = query.shape
    query = query.reshape(B, keys.shape[1], -1, dh)  # [B, Hkv, G·T, dh]
    out = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen.mask, scale=scale)
    return out.view(B, H, T, dh)


def _attend_capped(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    seen: AttentionMask,
    scale: float | None,
    softcap: float,
) -> Tensor:
    B, H, T, dh = query.shape
    kv_heads, K = keys.shape[1], keys.shape[2]
    query = query.reshape(B, kv_heads, -1, dh)  # [B, Hkv, G·T, dh]
    scores = query @ keys.transpose(2, 3) * (dh**-0.5 if scale is None else scale)
    scores = torch.tanh(scores / softcap) * softcap  # [B, Hkv, G·T, K]
    mask = seen.mask
    if seen.causal:
        mask = torch.ones(T, K, dtype=torch.bool, device=query.device).tril(K - T)
    if mask is not None:
        if mask.shape[-2] == T and T < query.shape[2]:  # one for every query that shares a key
            repeats = (*(1,) * (mask.dim() - 2), query.shape[2] // T, 1)
            mask = mask.repeat(repeats)
        low = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~mask, low) if mask.dtype == torch.bool else scores + mask
    wide = torch.promote_types(query.dtype, torch.float32)
    shares = scores.softmax(-1, dtype=wide).to(query.dtype)
    return (shares @ values).view(B, H, T, dh)
