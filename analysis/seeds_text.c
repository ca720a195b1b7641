/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <stdio.h>

#include "ptq/analysis/summary.h"

void ptq_seeds_text(const ptq_seeds *s, ptq_text *out) {
  if (s->n == 0) return;
  ptq_text_add(out, "spread between seeds of the calibration text, all else "
                    "equal (the windows' error comes on top)\n"
                    "  method                    bits  sets points  sd of "
                    "ln(dnll), 95 % interval  sd of dnll  windows' error\n");
  for (int64_t i = 0; i < s->n; i++) {
    const ptq_seed_spread *r = &s->row[i];
    char name[64], bits[16] = "mixed", spread[48] = "-";
    (void)snprintf(name, sizeof name, "%.31s%s%.20s%s", r->method,
                   r->options[0] != '\0' ? "(" : "", r->options,
                   r->options[0] != '\0' ? ")" : "");
    if (r->bits > 0.0) (void)snprintf(bits, sizeof bits, "%g", r->bits);
    if (isfinite(r->sd_log))
      (void)snprintf(spread, sizeof spread, "%.3g [%.3g, %.3g]", r->sd_log,
                     r->low, r->high);
    ptq_text_addf(out, "  %-24s %5s %5lld %6lld  %-28s %10.3g  %14.3g\n", name,
                  bits, (long long)r->n_sets, (long long)r->n_points, spread,
                  r->sd_nats, r->rms_se);
  }
  ptq_text_add(out, "\n");
}
