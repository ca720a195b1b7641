#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every operation's value, tangent, derivative and tangent of its derivative
with PyTorch in float64.

  make_operations.py [--salt N] [-o DIR]

Writes DIR/operations/CASE.npy and salt.npy (default: here, 1). Inputs are
hashes of their index, so that a file needs to hold summaries of results only:
norm and four products with hashed vectors each. tests/unit/model's
test_operations computes the same.
"""
import argparse
import json
import pathlib
import platform
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
PROBES = 4


def hashed(n, salt):
    """n numbers in [-0.5, 0.5) that C makes of the same integers."""
    index = (np.arange(n, dtype=np.uint64) + np.uint64(1000003 * salt))
    return ((index * np.uint64(2654435761)) % np.uint64(2**32)) / 2.0**32 - 0.5


class Source:
    """Hands out inputs, each of another salt."""

    def __init__(self, salt):
        self.salt = salt * 100

    def __call__(self, *shape, scale=1.0, shift=0.0):
        self.salt += 1
        x = hashed(int(np.prod(shape)), self.salt) * 2.0 * scale + shift
        return torch.from_numpy(x.reshape(shape))


def summary(tensors):
    out = []
    for t in tensors:
        x = t.detach().numpy().reshape(-1)
        out += [np.linalg.norm(x)]
        out += [x @ hashed(len(x), 1 + k) for k in range(PROBES)]
    return out


def differentiate(f, xs, xds, dys, dyds):
    """f's values, their tangents, derivatives and tangents of derivatives.
    f takes and gives tuples."""
    k = len(xs)

    def back(*args):
        _, pull = torch.func.vjp(f, *args[:k])
        return pull(tuple(args[k:]))

    ys, yds = torch.func.jvp(f, tuple(xs), tuple(xds))
    dxs, dxds = torch.func.jvp(back, tuple(xs) + tuple(dys),
                               tuple(xds) + tuple(dyds))
    return summary(list(ys) + list(yds) + list(dxs) + list(dxds))


def linear(source):
    n, out, wide = 9, 7, 11
    x, w = source(n, wide), source(out, wide)
    return differentiate(
        lambda x, w: (x @ w.T,), (x, w), (source(n, wide), source(out, wide)),
        (source(n, out),), (source(n, out),))


def norm(source, centred):
    n, width, eps = 6, 21, 1e-3
    w, b = source(width, shift=1.0), source(width)
    x = source(n, width, scale=3.0, shift=0.7)

    def f(x):
        if centred:
            return (torch.nn.functional.layer_norm(x, (width,), w, b, eps),)
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w +
                b,)

    return differentiate(f, (x,), (source(n, width),), (source(n, width),),
                         (source(n, width),))


ACTIVATIONS = [
    torch.nn.functional.silu, torch.relu, torch.nn.functional.gelu,
    lambda x: torch.nn.functional.gelu(x, approximate="tanh")]


def activation(source, kind, gate):
    n, width = 5, 19
    act = ACTIVATIONS[kind]
    x = [source(n, width, scale=4.0) for _ in range(1 + gate)]
    xd = [source(n, width) for _ in range(1 + gate)]
    return differentiate(
        lambda g, *u: (act(g) * u[0] if gate else act(g),), x, xd,
        (source(n, width),), (source(n, width),))


def clip(source):
    n, width = 6, 10
    x = source(n, width, scale=1.2)
    return differentiate(lambda x: (torch.clamp(x, -0.6, 0.6),), (x,),
                         (source(n, width),), (source(n, width),),
                         (source(n, width),))


# heads, key heads, head, tokens, rotated, window, cap, ALiBi's scale
ATTENTIONS = {
    "attention": (3, 3, 5, 70, 0, 0, 0.0, 0.0),
    "attention-rotary": (6, 2, 8, 300, 6, 0, 0.0, 0.0),
    "attention-window": (6, 2, 8, 300, 8, 50, 0.0, 0.0),
    "attention-cap": (4, 1, 6, 300, 0, 0, 1.7, 0.0),
    "attention-alibi": (3, 3, 4, 300, 0, 0, 0.0, 0.5),
    "attention-all": (5, 1, 6, 290, 4, 100, 1.3, 0.25),
}


def turn(x, width):
    """x[n, heads, d] rotated."""
    if width == 0:
        return x
    half = width // 2
    frequency = np.array([np.float32(100.0 ** (-2 * i / width))
                          for i in range(half)], dtype=np.float64)
    angle = torch.from_numpy(np.outer(np.arange(x.shape[0]), frequency))
    c, s = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:width]
    return torch.cat([a * c - b * s, b * c + a * s, x[..., width:]], -1)


def slopes(heads):
    power = 2 ** int(np.floor(np.log2(heads)))
    first = [2.0 ** (-8.0 / power * (h + 1)) for h in range(power)]
    more = [2.0 ** (-4.0 / power * (2 * h + 1)) for h in range(heads - power)]
    return torch.tensor(first + more, dtype=torch.float64)


def attention(source, heads, kv, d, n, rotated, window, cap, alibi):
    shapes = [(n, heads, d), (n, kv, d), (n, kv, d)]
    x = [source(*s, scale=1.5) for s in shapes]
    xd = [source(*s) for s in shapes]
    i = torch.arange(n)
    seen = i[:, None] >= i[None]
    if window:
        seen &= i[None] > i[:, None] - window

    def f(q, k, v):
        group = heads // kv
        q, k = turn(q, rotated), turn(k, rotated)
        k, v = (t.repeat_interleave(group, 1) for t in (k, v))
        s = torch.einsum("ihd,jhd->hij", q, k) * 0.6
        if cap:
            s = cap * torch.tanh(s / cap)
        if alibi:
            s = s + slopes(heads)[:, None, None] * i * alibi
        p = torch.softmax(s.masked_fill(~seen, -torch.inf), -1)
        return (torch.einsum("hij,jhd->ihd", p, v),)

    return differentiate(f, x, xd, (source(n, heads, d),),
                         (source(n, heads, d),))


def loss(source, cap, centred):
    """The NLL of tokens 3.. by the stream before the final norm."""
    n, width, vocab, first, eps = 9, 12, 2100, 3, 1e-3
    gain, bias = source(width, shift=1.0), source(width)
    head, offset = source(vocab, width, scale=2.0), source(vocab)
    h, hd = source(n, width, scale=2.0), source(n, width)
    ids = torch.tensor([(1009 * i + 5) % vocab for i in range(n)])

    def f(h):
        if centred:
            x = torch.nn.functional.layer_norm(h, (width,), gain, bias, eps)
        else:
            x = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps) * gain
            x = x + bias
        z = x @ head.T + offset
        if cap:
            z = cap * torch.tanh(z / cap)
        nll = torch.nn.functional.cross_entropy(
            z[first - 1:-1], ids[first:], reduction="sum")
        return (nll[None],)

    one = torch.ones(1, dtype=torch.float64)
    return differentiate(f, (h,), (hd,), (one,), (0.0 * one,))


CASES = {
    "linear": linear,
    "norm-rms": lambda s: norm(s, False),
    "norm-layer": lambda s: norm(s, True),
    **{f"{name}{'-gate' if g else ''}":
       lambda s, k=k, g=g: activation(s, k, g)
       for k, name in enumerate(("silu", "relu", "gelu", "gelu-tanh"))
       for g in (0, 1)},
    "clip": clip,
    **{name: lambda s, a=a: attention(s, *a) for name, a in ATTENTIONS.items()},
    "loss": lambda s: loss(s, 0.0, True),
    "loss-cap": lambda s: loss(s, 2.5, False),
}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--salt", type=int, default=1)
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path,
                        default=HERE)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = args.output / "operations"
    folder.mkdir(parents=True, exist_ok=True)
    for case, make in CASES.items():
        np.save(folder / f"{case}.npy", np.array(make(Source(args.salt))))
    np.save(folder / "salt.npy", np.array([args.salt], dtype="<u4"))
    (folder / "versions.json").write_text(json.dumps(
        {"numpy": np.__version__, "python": platform.python_version(),
         "torch": torch.__version__}, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
