# SPDX-License-Identifier: GPL-3.0-or-later
"""Products of bfloat16 in PyTorch, whatever model makes them.

  with Bf16():
      net(ids)

Under it a float32 model computes as `compute: bf16` does: the operands of
every matrix product are rounded to bfloat16 (nearest, ties to even), sums are
float32, and nothing else is rounded. Attention rounds exp(score - maximum),
with the maximum that our tiles of keys have reached so far, and divides by the
sum of what was rounded.

`sums` gives the order of additions: "float32" is the library's, "float64"
rounds once at the end, "reversed" is the library's over reversed operands. A
last bit of a float32 decides now and then which way an operand is rounded, and
then a few results differ by what a bfloat16 has: equal are results that differ
by no more than those of several orders do. `jitter` moves operands by such
noise at random before they are rounded: what it does not change, no order
does.
"""
import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

KEY_TILE = 512  # keys that a query meets at once: PTQ_KEY_TILE
HIDDEN = -1e30  # scores below are masked

ORDERS = ("float32", "float64", "reversed")


def rounded(x):
    """x rounded to bfloat16, as float32."""
    return x.bfloat16().float()


def product(a, b, sums):
    """a @ b for rounded a and b."""
    if sums == "float64":
        return (a.double() @ b.double()).float()
    if sums == "reversed":
        a, b = a.flip(-1), b.flip(-2)
    return a @ b


def moved(x, size, generator):
    """x with noise in units of its elements and of its rows."""
    scale = x.abs() + x.square().mean(-1, keepdim=True).sqrt()
    noise = torch.rand(x.shape, generator=generator) * 2 - 1
    return x + size * noise * scale


def probabilities(scores, jitter):
    """softmax(scores) whose exponentials were rounded tile by tile."""
    keys = scores.shape[-1]
    tile = KEY_TILE
    if (scores[..., 0] < HIDDEN).any():
        # A window: tiles begin at its first key, and one holds it.
        tile = keys
        seen = (scores > HIDDEN).sum(-1).max()
        assert seen + 96 <= KEY_TILE, "windows that take several tiles"
    parts, tops = [], []
    top = torch.full_like(scores[..., :1], -torch.inf)
    total = torch.zeros_like(top, dtype=torch.float64)
    for k0 in range(0, keys, tile):
        part = scores[..., k0:k0 + tile]
        now = torch.maximum(top, part.amax(-1, keepdim=True))
        total = total * torch.exp((top - now).double())
        e = torch.exp(part - now)
        total += e.double().sum(-1, keepdim=True)
        if jitter is not None:
            e = moved(e, *jitter)
        parts.append(rounded(e).double())
        tops.append(now)
        top = now
    return torch.cat([p * torch.exp((t - top).double()) / total
                      for p, t in zip(parts, tops)], -1).float()


def unscaled(net):
    """OPT scales queries, and would round the scaled ones: it shall not.
    Returns the factor that scores then lack, None for other models."""
    scale = None
    for module in net.modules():
        if type(module).__name__ == "OPTAttention":
            scale = module.head_dim ** -0.5
            module.scaling = 1.0
    return scale


class Products(TorchDispatchMode):
    """Matrix products and attention's softmax."""

    def __init__(self, sums, jitter, score_scale):
        super().__init__()
        self.sums = sums
        self.jitter = jitter  # size of the noise, and its generator
        self.score_scale = score_scale
        self.softmaxes = {}  # what `probabilities` returned, by its storage

    def operand(self, x):
        """Rounded, unless it comes from `probabilities`."""
        if x.untyped_storage().data_ptr() in self.softmaxes:
            return x
        if self.jitter is not None:
            x = moved(x, *self.jitter)
        return rounded(x)

    def multiply(self, a, b):
        # Angles are an outer product of positions and frequencies.
        if a.shape[-1] == 1:
            return a @ b
        c = product(self.operand(a), self.operand(b), self.sums)
        mixes = a.untyped_storage().data_ptr() in self.softmaxes
        if self.score_scale is not None and a.dim() == 3 and not mixes:
            c = c * self.score_scale
        return c

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        if name in ("aten::mm", "aten::bmm"):
            return self.multiply(*args[:2])
        if name in ("aten::addmm", "aten::baddbmm"):
            more, a, b = args[:3]
            return (kwargs.get("beta", 1) * more +
                    kwargs.get("alpha", 1) * self.multiply(a, b))
        if name == "aten::_softmax" and args[0].dim() >= 3 and (
                args[0].shape[-1] == args[0].shape[-2]):
            result = probabilities(args[0], self.jitter)
            # Kept, so that no other tensor gets its memory.
            self.softmaxes[result.untyped_storage().data_ptr()] = result
            return result
        if name.startswith("aten::_scaled_dot_product"):
            raise NotImplementedError(name)
        return func(*args, **kwargs)


class Attention(TorchFunctionMode):
    """scaled_dot_product_attention by products and softmax."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask", "dropout_p",
                 "is_causal", "scale")
        given = dict(zip(names, args), **kwargs)
        q, k, v = given["query"], given["key"], given["value"]
        scale = given.get("scale") or q.shape[-1] ** -0.5
        if k.shape[1] != q.shape[1]:
            repeats = q.shape[1] // k.shape[1]
            k = k.repeat_interleave(repeats, 1)
            v = v.repeat_interleave(repeats, 1)
        scores = (q @ k.transpose(-1, -2)) * scale
        mask = given.get("attn_mask")
        if given.get("is_causal"):
            n = q.shape[-2]
            mask = torch.full((n, n), -torch.inf).triu(1)
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        if mask is not None:
            scores = scores + mask
        return torch.softmax(scores, -1) @ v


@contextlib.contextmanager
def Bf16(sums="float32", jitter=0.0, seed=0, score_scale=None):
    """Every product below takes bfloat16. `score_scale` is the factor of
    scores that `unscaled` took from the model's queries."""
    noise = None
    if jitter > 0.0:
        noise = jitter, torch.Generator().manual_seed(seed)
    with torch.no_grad(), Attention(), Products(sums, noise, score_scale):
        yield
