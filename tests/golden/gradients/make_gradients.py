#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derivatives of the models of tests/golden/architectures with PyTorch in
float64.

  make_gradients.py --build DIR [CASE...] [-o DIR]

Writes DIR/CASE.npy for each case (default: all that the installed
transformers has, here); README.md says what. tests/parity compares whole
gradients of other models with the same functions.
"""
import argparse
import contextlib
import json
import pathlib
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ARCHITECTURES = HERE.parent / "architectures"
sys.path.insert(0, str(ARCHITECTURES))

import make_architectures as golden  # noqa: E402

PROBES = 4


@contextlib.contextmanager
def float64():
    """transformers computes norms, softmax and angles in float32 whatever the
    model's type; within this, what it takes for float32 is float64."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept


@contextlib.contextmanager
def rounded():
    """Within this, powers of float32 are the float32 nearest to the float64
    power, as in C: frequencies of rotation are the program's to the last bit."""
    import torch
    kept = torch.Tensor.__rpow__

    def power(exponent, base):
        if exponent.dtype != torch.float32:
            return kept(exponent, base)
        return torch.pow(float(np.float32(base)), exponent.double()).to(
            exponent.dtype)

    torch.Tensor.__rpow__ = power
    try:
        yield
    finally:
        torch.Tensor.__rpow__ = kept


def widen(make, ids):
    """The model of make() in float64, with its constants unrounded. It runs
    once before, so that tables of angles that are made on the way are made in
    float32, as the program has them."""
    import torch
    with rounded():
        net = make()
        golden.logits(net, ids)
    net = net.double()
    for module in net.modules():
        name = type(module).__name__
        if name == "BloomGelu":  # has sqrt(2 / pi) in eight digits
            module.forward = lambda x: torch.nn.functional.gelu(
                x, approximate="tanh")
        if hasattr(module, "embed_scale") and torch.is_tensor(
                module.embed_scale):
            module.embed_scale = torch.tensor(
                float(net.config.hidden_size) ** 0.5, dtype=torch.float64)
    return net


def layers_of(build, model):
    """Names of the linear layers' weights in the order of a flat vector."""
    done = subprocess.run([f"{build}/ptqsweep", "inspect", str(model), "--json"],
                          check=True, capture_output=True, text=True)
    info = json.loads(done.stdout)
    return [layer["tensor"].replace(".0.", f".{block}.", 1)
            for block in range(info["n_blocks"]) for layer in info["layers"]]


def parameters(net, names):
    """Those weights; all other parameters become constants."""
    known = dict(net.named_parameters())
    found = []
    for name in names:
        found += [p for key, p in known.items()
                  if key == name or key.endswith("." + name)]
    assert len(found) == len(names), (names, list(known))
    for p in net.parameters():
        p.requires_grad_(False)
    for p in found:
        p.requires_grad_(True)
    return found


def is_transposed(net):
    """Weights stored as [in, out]; the program turns them."""
    return type(net).__name__.startswith("GPT2")


def flat(tensors, transposed):
    import torch
    return torch.cat([(t.T if transposed else t).reshape(-1)
                      for t in tensors]).detach().numpy()


def unflat(vector, like, transposed):
    import torch
    out, at = [], 0
    for p in like:
        shape = p.shape[::-1] if transposed else p.shape
        piece = torch.from_numpy(vector[at:at + p.numel()].copy()).reshape(shape)
        out.append((piece.T if transposed else piece).to(p.dtype))
        at += p.numel()
    assert at == len(vector)
    return out


def derivatives(net, windows, names, directions):
    """NLL, slopes along directions, gradient, and the Hessian times each
    direction, of the mean over scored tokens; directions are functions of the
    number of elements or vectors."""
    import torch
    params = parameters(net, names)
    transposed = is_transposed(net)
    n = sum(p.numel() for p in params)
    directions = [d(n) if callable(d) else d for d in directions]
    total, gradient, products = 0.0, np.zeros(n), [np.zeros(n)
                                                   for _ in directions]
    tokens = sum(len(ids) - 1 for ids in windows)
    for ids in windows:
        ids = torch.from_numpy(ids.astype(np.int64))
        logits = net(ids[None], use_cache=False).logits[0]
        nll = torch.nn.functional.cross_entropy(
            logits[:-1].to(params[0].dtype), ids[1:], reduction="sum") / tokens
        # An expert without a token has no part in the loss.
        grads = torch.autograd.grad(nll, params, create_graph=True,
                                    materialize_grads=True)
        total += float(nll.detach())
        gradient += flat(grads, transposed)
        for j, d in enumerate(directions):
            pieces = unflat(d, params, transposed)
            slope = sum((g * e).sum() for g, e in zip(grads, pieces))
            # A ReLU model's slope may not depend on some weight.
            hv = torch.autograd.grad(slope, params, retain_graph=True,
                                     materialize_grads=True)
            products[j] += flat(hv, transposed)
    slopes = [float(gradient @ d) for d in directions]
    return total, slopes, gradient, products, [p.numel() for p in params]


def gauss_newton(net, windows, names, directions):
    """J' S J times each direction, of the mean over scored tokens: J the
    Jacobian of the logits, S = diag(p) - p p'."""
    import torch
    params = parameters(net, names)
    transposed = is_transposed(net)
    products = [np.zeros(len(d)) for d in directions]
    tokens = sum(len(ids) - 1 for ids in windows)
    for ids in windows:
        ids = torch.from_numpy(ids.astype(np.int64))
        logits = net(ids[None], use_cache=False).logits[0][:-1]
        logits = logits.to(params[0].dtype)
        p = torch.softmax(logits, -1).detach()
        seed = torch.zeros_like(logits, requires_grad=True)
        back = torch.autograd.grad(logits, params, grad_outputs=seed,
                                   create_graph=True, materialize_grads=True)
        for j, d in enumerate(directions):
            pieces = unflat(d, params, transposed)
            along, = torch.autograd.grad(  # J e, as the derivative of J' seed
                back, seed, grad_outputs=pieces, retain_graph=True)
            s = p * (along - (p * along).sum(-1, keepdim=True)) / tokens
            product = torch.autograd.grad(logits, params, grad_outputs=s,
                                          retain_graph=True,
                                          materialize_grads=True)
            products[j] += flat(product, transposed)
    return products


def hashed(n, salt):
    """n numbers in [-0.5, 0.5) that C makes of the same integers."""
    index = (np.arange(n, dtype=np.uint64) + np.uint64(1000003 * salt))
    return ((index * np.uint64(2654435761)) % np.uint64(2**32)) / 2.0**32 - 0.5


def summary(sizes, total, slopes, gradient, products):
    """[NLL, e'g, e'He], then for each layer |g|, |He| and PROBES products of
    each with hashed vectors."""
    e = hashed(len(gradient), 0)
    out = [total, slopes[0], float(products[0] @ e)]
    at = 0
    for size in sizes:
        for x in (gradient[at:at + size], products[0][at:at + size]):
            out += [float(np.linalg.norm(x))]
            out += [float(x @ hashed(size, 1 + k)) for k in range(PROBES)]
        at += size
    return np.array(out)


def make(case, build, output):
    """One golden file, of the model that is committed."""
    import torch
    import transformers
    directory = ARCHITECTURES / case
    attention = "sdpa" if golden.CASES[case][0] == "Falcon" else "eager"
    ids = np.load(directory / "ids.npy")
    net = widen(lambda: transformers.AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation=attention,
        torch_dtype=torch.float32).eval(), ids)
    with float64():
        found = derivatives(net, [ids], layers_of(build, directory),
                            [lambda n: hashed(n, 0)])
    total, slopes, gradient, products, sizes = found
    np.save(output / f"{case}.npy",
            summary(sizes, total, slopes, gradient, products))


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("case", nargs="*", help="default: all")
    parser.add_argument("--build", required=True, help="has ptqsweep")
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path,
                        default=HERE)
    args = parser.parse_args(argv)
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    path = args.output / "versions.json"
    made = json.loads(path.read_text()) if path.exists() else {}
    for case in args.case or [c for c in golden.CASES if golden.available(c)]:
        make(case, args.build, args.output)
        made[case] = golden.versions()
        print(case, flush=True)
    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
