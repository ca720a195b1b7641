# SPDX-License-Identifier: GPL-3.0-or-later
"""Products of bfloat16: random models of every architecture, and a published
one, against transformers in float32 with rounded operands (oracle.py).

Sums in another order move float32's last bits, these decide now and then how
an operand is rounded, and behind some blocks whole logits differ by what
bfloat16 has, whoever is right. So the operations are compared where they
stand: transformers gets our inputs of every linear layer in place of its own,
which must be its own, rounded: half a step of a bfloat16 away at most, and TIE
of the row's largest, since between two such places lies a sum of some hundred
products, each rounded to 2^-24 of them in an unknown order.

Within attention, queries, keys and probabilities are rounded out of our sight:
SHARE of its results may differ by what one of them makes. Then, logits of both
passes on their own: no further apart than sums in other orders are.

Prints a table as parity.py does; exit status 1 when a row fails.
"""
import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "golden/architectures"),
                str(HERE.parent / "golden/bf16"), str(HERE)]

import architectures  # noqa: E402
import make_architectures as golden  # noqa: E402
import oracle  # noqa: E402
from make_bf16 import OTHERWISE  # noqa: E402
from table import Table  # noqa: E402

TIE = 2.0 ** -15
SHARE = 0.05
LOGIT = 2.0 ** -15  # of the largest
NLL = 1e-5
NOISE = 8.0  # times what a few orders of summation make
DRAWS = 4


class RoutingTie(Exception):
    """A router's sums in another order send a token to another expert."""


def differ(ours, exact):
    """Where our rounded values are not those of exact ones."""
    # A bfloat16 has 8 bits: half a step is 2^-8 of the power of two below.
    exponent = np.frexp(np.maximum(np.abs(ours), np.abs(exact)))[1] - 1
    half_step = np.ldexp(1.0, exponent - 8)
    slack = TIE * np.abs(exact).max(-1, keepdims=True)
    return np.abs(ours - exact) > half_step + slack


def routers(inputs):
    """{router: its inputs}: each of its experts gets some of their rows."""
    found = {}
    for name, x in inputs.items():
        mixture, _, expert = name.partition(".experts.")
        if expert.endswith((".w1.weight", ".gate_proj.weight")):
            gate = f"{mixture}.gate.weight"
            seen = found.get(gate, x)
            found[gate] = np.where(np.isnan(seen), x, seen)
    return found


def forced(net, ids, inputs, scale):
    """Logits with our inputs of linear layers in place of its own, and the
    shares of these that are not its own, rounded: {site: share}."""
    import torch
    modules = dict(net.named_modules())
    routing = architectures.Routing(net, inputs)
    wrong, handles = {}, routing.handles

    def watch(name, x):
        def hook(_module, args):
            own = args[0].detach().numpy()
            rows = routing.rows(name)
            mine = (x if rows is None else x[rows]).reshape(own.shape)
            if np.isnan(mine).any():
                raise RoutingTie(name)
            wrong[name] = float(differ(mine, own).mean()) if own.size else 0.0
            return (torch.from_numpy(mine), *args[1:])
        return hook

    for name, x in {**inputs, **routers(inputs)}.items():
        module = modules[name.removesuffix(".weight")]
        handles.append(module.register_forward_pre_hook(watch(name, x)))
    with oracle.Bf16(score_scale=scale):
        logits = net(torch.from_numpy(ids.astype(np.int64))[None],
                     use_cache=False).logits[0].numpy()
    for handle in handles:
        handle.remove()
    return logits, wrong


def alone(net, ids, scale, sums):
    import torch
    with oracle.Bf16(sums, score_scale=scale):
        return net(torch.from_numpy(ids.astype(np.int64))[None],
                   use_cache=False).logits[0].numpy()


def nll_of(logits, ids):
    import torch
    logp = torch.log_softmax(torch.from_numpy(logits[:-1]).double(), -1)
    target = torch.from_numpy(ids[1:].astype(np.int64))
    return float(-logp.gather(-1, target[:, None]).sum())


def rms(x):
    return float(np.sqrt(np.square(x, dtype=np.float64).mean()))


class Worst:
    """The worst of some windows, a row a quantity; shares are over all."""

    def __init__(self):
        self.rows, self.shares = {}, {}

    def share(self, what, share, tokens, bound):
        """What may differ in a share of the tokens of all windows: of a short
        window, one token is much."""
        wrong, total, _ = self.shares.get(what, (0.0, 0, bound))
        self.shares[what] = (wrong + share * tokens, total + tokens, bound)

    def note(self, what, off, ours, theirs, bound):
        row = (off / bound, off, ours, theirs, bound)
        self.rows[what] = max(self.rows.get(what, row), row)

    def print(self, table, name):
        for what, (wrong, total, bound) in self.shares.items():
            mean = wrong / total
            table.row(f"{name} {what}", mean, 0.0, mean, bound)
        for what, (_, off, ours, theirs, bound) in self.rows.items():
            table.row(f"{name} {what}", ours, theirs, off, bound)


def compare(worst, build, model, net, ids, scale):
    """One window."""
    logits, nll, inputs = architectures.ours(build, model, ids, ["--bf16"])
    for x in inputs.values():
        import torch
        known = x[~np.isnan(x[:, 0])]
        assert (oracle.rounded(torch.from_numpy(known)).numpy() == known).all()
    theirs, wrong = forced(net, ids, inputs, scale)
    attention = {n for n in wrong if n in inputs
                 and site_of(build, model, n) == "attn_out"}
    rest = max(wrong[n] for n in wrong if n not in attention)
    worst.note("inputs, share", rest, rest, 0.0, 1e-9)
    most = max(wrong[n] for n in attention)
    worst.share("behind attention, share", most, len(ids), SHARE)
    off = np.abs(logits - theirs).max(-1) > LOGIT * np.abs(theirs).max()
    worst.share("logits, share of tokens", off.mean(), len(ids), SHARE)
    their_nll = nll_of(theirs, ids)
    worst.note("NLL (relative)", abs(nll / their_nll - 1), nll, their_nll, NLL)
    if routers(inputs):
        return  # on their own, a tie in a router changes whole tokens
    # On their own.
    orders = [alone(net, ids, scale, sums) for sums in oracle.ORDERS]
    noise = max(rms(orders[0] - other) for other in orders[1:])
    floor = LOGIT * np.abs(theirs).max()
    apart = rms(logits - orders[0])
    worst.note("logits alone, rms", apart, rms(logits), rms(orders[0]),
               NOISE * noise + floor)


def site_of(build, model, tensor, cache={}):  # noqa: B006
    """The site of a linear layer of any block."""
    if str(model) not in cache:
        layers, n = architectures.layers_of(build, model)
        cache[str(model)] = {
            layer["tensor"].replace(".0.", f".{block}.", 1): layer["site"]
            for layer in layers for block in range(n)}
    return cache[str(model)][tensor]


def random_model(table, build, case, seed):
    """One that has no tie in a router; a fault in routing ties them all."""
    for draw in range(DRAWS):
        try:
            return one_model(table, build, case, seed + 1000 * draw)
        except RoutingTie as tie:
            print(f"{case}: a tie in the router before {tie}; drawn anew")
    table.row(f"{case} routers", DRAWS, 0, DRAWS, 0.0)


def one_model(table, build, case, seed):
    rng = np.random.default_rng([seed, sum(case.encode()), 16])
    sizes = golden.draw(rng)
    net = golden.build(case, sizes, seed)
    worst = Worst()
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        golden.save(net, model)
        scale = oracle.unscaled(net)
        for length in architectures.LENGTHS:
            ids = rng.integers(0, sizes["vocab"], length)
            compare(worst, build, model, net, ids, scale)
    worst.print(table, case)


def published(table, build, model, text):
    """A window of a text, or random tokens without one."""
    import torch
    import transformers
    net = transformers.AutoModelForCausalLM.from_pretrained(
        model, torch_dtype=torch.float32, attn_implementation="eager").eval()
    ids = np.random.default_rng(1).integers(0, net.config.vocab_size, 600)
    if text is not None:
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        start = Path(text).read_text(encoding="utf-8")[:600 * 8]
        ids = np.array(tokenizer.encode(start).ids[:600], np.uint32)
    worst = Worst()
    compare(worst, build, Path(model), net, ids, None)
    worst.print(table, Path(model).name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", help="a published LLaMA-like model")
    parser.add_argument("--text", help="WikiText-2's test text")
    parser.add_argument("--without", nargs="*", default=[],
                        help="cases that ran elsewhere")
    args = parser.parse_args()
    import transformers
    transformers.logging.set_verbosity_error()
    table = Table()
    for case in golden.CASES:
        if golden.available(case) and case not in (*args.without, *OTHERWISE):
            random_model(table, args.build, case, args.seed)
    if args.model is not None:
        published(table, args.build, args.model, args.text)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
