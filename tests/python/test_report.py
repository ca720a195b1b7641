# SPDX-License-Identifier: GPL-3.0-or-later
"""The report and the fits as a reader and a program meet them.

Takes PTQSWEEP (the program) and PTQ_BINARY_DIR (where test_report writes
synthetic stores). The standard library alone is used; where chromium is
installed it also renders the page and reports script and layout errors.
"""
import csv
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

PROGRAM = os.environ["PTQSWEEP"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
WRITER = pathlib.Path(os.environ["PTQ_BINARY_DIR"]) / "tests" / "test_report"
PLOTS = ["nll-bits", "dnll-bits", "predicted-measured", "gptq-gain",
         "sqnr-dnll", "spectra", "residuals", "importance", "pareto", "layers"]
VOID = {"meta", "br", "link", "img", "hr", "input", "col", "source"}


def ptqsweep(*args, whole=False, **kwargs):
    if args[0] in ("fit", "report") and not whole and "--help" not in args:
        args = (*args, "--no-comparison")  # it takes seconds
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True,
                          text=True, **kwargs)


class Page(html.parser.HTMLParser):
    """Checks nesting; collects ids, links and what a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.errors = [], []
        self.ids, self.links, self.loads, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        self.errors += [f"<{tag}> is not closed" for tag in self.stack]

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "xlink:href") and tag != "use":
                self.links.append(value)
            elif name in ("src", "data", "poster", "srcset", "action"):
                self.loads.append(value)
            elif name.startswith("on"):
                self.loads.append(f"{name}={value}")

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.errors.append(f"</{tag}> at {self.getpos()}")


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        cls.store = cls.dir / "quick.h5"
        cls.half = cls.dir / "quick.h5.half"
        subprocess.run([WRITER], check=True,
                       env={**os.environ, "PTQ_STORE_OUT": str(cls.store)})
        cls.out = cls.dir / "out"
        cls.out_half = cls.dir / "half"
        for store, out in ((cls.store, cls.out), (cls.half, cls.out_half)):
            done = ptqsweep("report", store, "-o", out)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == f"{out}/index.html", done.stdout

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def pages(self):
        for out in (self.out, self.out_half):
            with self.subTest(out.name):
                yield (out / "index.html").read_text(encoding="utf-8")

    def test_page_is_well_formed_and_ids_are_unique(self):
        for text in self.pages():
            page = Page(text)
            self.assertEqual(page.errors, [])
            self.assertEqual(len(page.ids), len(set(page.ids)))
            self.assertEqual(page.tags.count("svg"), len(PLOTS))

    def test_page_needs_no_network_and_runs_nothing(self):
        for text in self.pages():
            page = Page(text)
            self.assertEqual(page.loads, [])
            # one script of its own, which sorts tables
            self.assertEqual(page.tags.count("script"), 1)
            self.assertNotIn("<script ", text)
            self.assertIn('table class="sortable"', text)
            for link in page.links:
                self.assertRegex(link, r"^(#[\w-]+|[\w-]+\.(svg|csv))$")
                if link.startswith("#"):
                    self.assertIn(link[1:], page.ids)
            bare = re.sub(r'xmlns(:xlink)?="http://www\.w3\.org/[^"]*"', "",
                          text)
            self.assertNotIn("http", bare)
            self.assertNotIn("@import", bare)

    def test_every_plot_is_there_with_its_file_and_data(self):
        for out in (self.out, self.out_half):
            text = (out / "index.html").read_text(encoding="utf-8")
            for plot in PLOTS:
                with self.subTest(f"{out.name}/{plot}"):
                    svg = (out / f"{plot}.svg").read_text(encoding="utf-8")
                    self.assertIn(svg, text)
                    root = xml.etree.ElementTree.fromstring(svg)
                    self.assertTrue(root.get("viewBox"))
                    with open(out / f"{plot}.csv", newline="",
                              encoding="utf-8") as f:
                        rows = list(csv.reader(f))
                    self.assertGreater(len(rows), 8)
                    self.assertEqual({len(row) for row in rows},
                                     {len(rows[0])})

    def test_every_prediction_is_drawn_or_counted(self):
        use = "{http://www.w3.org/2000/svg}use"
        for out in (self.out, self.out_half):
            with self.subTest(out.name):
                svg = (out / "predicted-measured.svg").read_text("utf-8")
                with open(out / "predicted-measured.csv", newline="",
                          encoding="utf-8") as f:
                    rows = [r for r in csv.DictReader(f) if r["split"] in
                            ("leave-one-model-out", "leave-one-family-out")]
                families = len({r["family"] for r in rows})
                mark = "{http://www.w3.org/1999/xlink}href"
                root = xml.etree.ElementTree.fromstring(svg)
                defined = {id(u) for d in root.iter(
                    "{http://www.w3.org/2000/svg}defs") for u in d.iter(use)}
                marks = sum("gpPt" in u.get(mark) for u in root.iter(use)
                            if id(u) not in defined)  # those of bars are dots
                marks -= families  # in the key
                told = re.search(
                    r"Of (\d+) predictions (\d+) are not drawn",
                    (out / "index.html").read_text("utf-8"))
                hidden = int(told[2]) if told else 0
                self.assertEqual(marks + hidden, len(rows))
                if told:
                    self.assertEqual(int(told[1]), len(rows))

    def test_page_of_an_empty_store_leads_nowhere_else(self):
        out = self.dir / "empty"
        done = ptqsweep("report", f"{self.store}.empty", "-o", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        page = Page((out / "index.html").read_text(encoding="utf-8"))
        self.assertEqual(page.errors, [])
        files = {p.stem for p in out.glob("*.svg")}
        self.assertEqual(files, {"spectra"})  # of the models, finished
        self.assertEqual(page.tags.count("figcaption"), 1)
        for link in page.links:
            if link.startswith("#"):
                self.assertIn(link[1:], page.ids, link)

    def test_every_table_of_results_sorts(self):
        out = self.dir / "whole"
        done = ptqsweep("report", self.store, "-o", out, whole=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = (out / "index.html").read_text(encoding="utf-8")
        parts = text.split('<h2 id="validation">')[1].split("<h3")
        laws = text.split("<h4>Laws of the literature")[1]
        for part in (parts[0], laws):
            table = re.search(r"<table.*?</table>", part, re.DOTALL)[0]
            self.assertTrue(table.startswith('<table class="sortable">'))
            rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
            self.assertNotIn("colspan", table)
            self.assertGreater(len(rows), 4)
            self.assertEqual(  # one cell a column in each row
                len({len(re.findall("<t[hd]", r)) for r in rows}), 1)

    def test_axes_have_units(self):
        names = {"nll-bits": ["bits a weight", "NLL, nats a token"],
                 "dnll-bits": ["bits a weight", "ΔNLL, nats a token"],
                 "gptq-gain": ["parameters without embeddings",
                               "output SQNR gained, dB",
                               "ΔNLL avoided, nats a token"],
                 "predicted-measured": ["measured ΔNLL, nats a token",
                                        "predicted ΔNLL, nats a token"],
                 "sqnr-dnll": ["weight SQNR, pooled over layers, dB",
                               "output SQNR, mean over layers, dB"],
                 "spectra": ["rank", "share of the trace"],
                 "residuals": ["ln(measured / predicted)"],
                 "importance": ["growth of the mean |ln(p/m)| when shuffled"],
                 "pareto": ["whole model, bytes", "NLL, nats a token"],
                 "layers": ["block", "output SQNR, dB"]}
        for plot in PLOTS:
            svg = (self.out / f"{plot}.svg").read_text(encoding="utf-8")
            root = xml.etree.ElementTree.fromstring(svg)
            texts = {"".join(t.itertext()).strip() for t in root.iter(
                "{http://www.w3.org/2000/svg}text")}
            for name in names[plot]:
                self.assertIn(name, texts, plot)

    def test_same_store_gives_the_same_bytes(self):
        again = self.dir / "again"
        self.assertEqual(ptqsweep("report", self.store, "-o",
                                  again).returncode, 0)
        for path in self.out.iterdir():
            self.assertEqual(path.read_bytes(),
                             (again / path.name).read_bytes(), path.name)

    def test_directory_defaults_to_the_stores_name(self):
        done = ptqsweep("report", self.store, cwd=self.dir)
        self.assertEqual(done.stdout.strip(), "quick-report/index.html")
        self.assertTrue((self.dir / "quick-report/index.html").is_file())

    def test_data_of_a_plot_equal_the_law(self):
        with open(self.out / "predicted-measured.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        fit = json.loads(ptqsweep("fit", self.store, "--json").stdout)
        splits = fit["fits"][0]["validation"]
        for split in splits:
            mine = [r for r in rows if r["split"] == split["split"]]
            self.assertEqual(len(mine), split["n_predicted"])
            inside = [r for r in mine if 0.01 < float(r["dnll"]) < 1]
            self.assertEqual(len(inside), split["all"]["n"])

    @unittest.skipUnless(shutil.which("chromium"), "chromium not installed")
    def test_browser_lays_the_page_out_without_errors(self):
        shot = self.dir / "page.png"
        done = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu",
             f"--user-data-dir={self.dir}/chromium", "--enable-logging=stderr",
             "--v=0", "--window-size=900,1200", f"--screenshot={shot}",
             (self.out / "index.html").as_uri()],
            capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertGreater(shot.stat().st_size, 20_000)
        self.assertNotIn("CONSOLE", done.stderr)

    @unittest.skipUnless(shutil.which("chromium"), "chromium not installed")
    def test_tables_sort_by_a_click_without_script_errors(self):
        text = (self.out / "index.html").read_text(encoding="utf-8")
        probe = """<script>
          const t = document.querySelector('#models ~ .scroll table');
          const column = () => Array.from(t.tBodies[0].rows,
            (r) => Number(r.cells[2].textContent.replace(/\\s/g, '')));
          t.tHead.rows[0].cells[2].click();
          const up = column();
          t.tHead.rows[0].cells[2].click();
          const down = column();
          document.title = JSON.stringify([up, down]);
        </script></body>"""
        page = self.dir / "probe.html"
        page.write_text(text.replace("</body>", probe), encoding="utf-8")
        done = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu",
             f"--user-data-dir={self.dir}/chromium2",
             "--enable-logging=stderr", "--v=0", "--dump-dom", page.as_uri()],
            capture_output=True, text=True, timeout=120)
        self.assertNotIn("CONSOLE", done.stderr)
        title = re.search(r"<title>(.*?)</title>", done.stdout).group(1)
        up, down = json.loads(title)
        self.assertEqual(len(up), 10)
        self.assertEqual(up, sorted(up))
        self.assertEqual(down, sorted(up, reverse=True))


class Fit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.store = pathlib.Path(cls.temp.name) / "quick.h5"
        subprocess.run([WRITER], check=True,
                       env={**os.environ, "PTQ_STORE_OUT": str(cls.store)})

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def test_json_has_the_law_and_counts_every_point(self):
        for store in (self.store, f"{self.store}.half"):
            done = ptqsweep("fit", store, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            fits = json.loads(done.stdout)["fits"]
            self.assertEqual([f["estimator"] for f in fits],
                             ["quasi", "censored", "ols", "weighted", "robust",
                              "ridge"])
            for fit in fits:
                out = sum(fit[k] for k in (
                    "n_failed", "n_pending", "n_dequantized", "n_incomplete",
                    "n_without_value", "n_excluded", "n_unbounded"))
                self.assertEqual(fit["n"] + out, 320)
                self.assertEqual(fit["n_models"], 10)
                self.assertEqual(fit["n_runs"], 10)
                for c in fit["coefficients"]:
                    self.assertGreater(c["std_error"], 0)
                    self.assertGreater(c["std_error_cluster"], 0)
                    self.assertLess(c["ci_low"], c["estimate"])
                    self.assertLess(c["estimate"], c["ci_high"])

    def test_law_comes_back(self):
        fit = json.loads(ptqsweep(
            "fit", self.store, "--json", "--formula",
            "log(params_nonembedding) + bits_per_weight + log(group) + method"
        ).stdout)["fits"][1]
        law = {"log(params_nonembedding)": -0.2, "bits_per_weight": -1.35,
               "log(group)": 0.15, "method[gptq]": -0.4}
        for c in fit["coefficients"]:
            if c["name"] in law:
                self.assertLess(abs(c["estimate"] - law[c["name"]]),
                                4 * c["std_error_cluster"], c["name"])

    def test_all_laws_are_compared_under_every_split(self):
        fit = json.loads(ptqsweep("fit", self.store, "--json",
                                  whole=True).stdout)
        laws = {law["law"]: law for law in fit["laws"]}
        for name in ("simple", "simple/ridge", "chosen", "kumar-fixed-D",
                     "forest", "boosting"):
            self.assertTrue(laws[name]["fitted"], laws[name]["failure"])
        self.assertFalse(laws["kumar"]["fitted"])
        self.assertIn("'train_tokens' is absent", laws["kumar"]["failure"])
        curve = laws["kumar-fixed-D"]["parameters"]
        self.assertEqual([p["name"] for p in curve], ["C", "gN", "gpost"])
        self.assertEqual([c["split"] for c in fit["comparison"]], [
            "leave-one-model-out", "leave-one-family-out", "largest-size-out",
            "leave-one-dtype-out", "leave-one-method-out", "held-out-family"])
        self.assertEqual(fit["comparison"].pop()["laws"], [])  # none marked
        for split in fit["comparison"]:
            self.assertGreater(len(split["laws"]), 5)
            errors = [row["median_abs_ln"] or 1e9 for row in split["laws"]]
            self.assertEqual(errors, sorted(errors))
            for row in split["laws"]:
                self.assertIn(row["tier"], ("config", "weights",
                                            "calibration"))
                self.assertIsNotNone(row["median_abs_ln_baseline"])

    def test_importance_is_the_reports(self):
        fit = json.loads(ptqsweep("fit", self.store, "--json",
                                  whole=True).stdout)
        rows = {law: [r for r in fit["importance"] if r["law"] == law]
                for law in ("forest", "forest-config", "boosting")}
        self.assertEqual(sum(map(len, rows.values())), len(fit["importance"]))
        for law, mine in rows.items():
            growth = [r["importance"] for r in mine]
            self.assertEqual(growth, sorted(growth, reverse=True), law)
            self.assertGreater(growth[0], 0.1, law)  # of a known law
            self.assertEqual(len({r["feature"] for r in mine}), len(mine))
            self.assertEqual(len({r["mean_abs_ln"] for r in mine}), 1)
        out = pathlib.Path(f"{self.store}-importance")
        self.assertEqual(ptqsweep("report", self.store, "-o",
                                  out).returncode, 0)
        with open(out / "importance.csv", newline="") as f:
            drawn = [(r["feature"], float(r["growth"]))
                     for r in csv.DictReader(f)]
        self.assertEqual([r["feature"] for r in rows["forest"]],
                         [name for name, _ in drawn])
        for row, (name, growth) in zip(rows["forest"], drawn):
            self.assertAlmostEqual(row["importance"], growth, 8, name)
        for flag in ("--no-trees", "--no-comparison"):
            done = ptqsweep("fit", self.store, "--json", flag, whole=True)
            self.assertEqual(json.loads(done.stdout)["importance"], [])

    def test_laws_that_predict_nothing_are_in_the_report_too(self):
        out = f"{self.store}-whole"
        done = ptqsweep("report", self.store, "-o", out, whole=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = pathlib.Path(out, "index.html").read_text(encoding="utf-8")
        part = text.split("<h4>leave-one-method-out</h4>")[1].split("<h4>")[0]
        self.assertIn("No prediction of these points", part)
        self.assertRegex(part, r"seen in training: .*\bsimple\b")
        self.assertEqual(Page(text).errors, [])

    def test_what_is_not_defined_is_not_printed_as_a_number(self):
        text = ptqsweep("fit", self.store, "--formula", "1").stdout
        self.assertIn("Jarque-Bera", text)
        self.assertIn("Cook's distances", text)
        self.assertNotIn("nan", text.split("the same formula")[0].split(
            "held-out")[0])
        text = ptqsweep("fit", self.store, "--formula", "model").stdout
        self.assertIn("10 without a clustered error: each is determined by "
                      "one model", text)

    def test_rows_left_out_are_named(self):
        fits = json.loads(ptqsweep("fit", self.store, "--json").stdout)["fits"]
        for fit in fits:
            self.assertEqual(len(fit["rows_left_out"]), fit["n_left_out"])
            for row in fit["rows_left_out"]:
                self.assertEqual(len(row["key"]), 32)
                self.assertTrue(row["point"] and row["why"])

    def test_text_is_deterministic_and_ends_with_the_law(self):
        first, second = (ptqsweep("fit", self.store).stdout for _ in "ab")
        self.assertEqual(first, second)
        self.assertIn("\nThe law, in nats a token added by quantization:\n"
                      "  dnll = exp(", first)

    def test_bad_input_is_named(self):
        cases = [
            (["--formula", "bits_per_wieght"], "did you mean"),
            (["--estimator", "lasso"], "quasi, censored, ols"),
            (["--power", "0"], "--power: 0 is not in (0, 3]"),
            (["--power", "x"], "power"),
        ]
        for args, want in cases:
            done = ptqsweep("fit", self.store, *args)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(want, done.stderr)
        done = ptqsweep("report", self.store, "-o", f"{self.store}/x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot make the directory", done.stderr)
        done = ptqsweep("fit", f"{self.store}.none")
        self.assertEqual(done.returncode, 1)
        self.assertIn(".none", done.stderr)

    def test_list_tells_every_column(self):
        text = ptqsweep("list", "columns").stdout
        source = (ROOT / "analysis/feature.c").read_text()
        names = re.findall(r'^  \{"(\w+)"', source, re.MULTILINE)
        self.assertGreater(len(names), 15)
        for name in names:
            self.assertRegex(text, rf"\b{name}\b")


if __name__ == "__main__":
    unittest.main()
