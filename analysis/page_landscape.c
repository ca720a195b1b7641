/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <string.h>

#include "page.h"

void ptq_html_subject(ptq_text *out, const ptq_frame *f, int64_t subject) {
  const ptq_model_row *m = &f->models[subject];
  bool calibrations = false, evaluations = false;
  for (int64_t i = 0; i < f->n_models; i++) {
    const ptq_model_row *o = &f->models[i];
    if (strcmp(o->model, m->model) != 0) continue;
    calibrations |= strcmp(o->calibration, m->calibration) != 0;
    evaluations |= strcmp(o->evaluation, m->evaluation) != 0;
  }
  ptq_html_text(out, m->model);
  if (evaluations) {
    ptq_text_add(out, " on ");
    ptq_html_text(out, m->evaluation);
  }
  if (calibrations) {
    ptq_text_add(out, " by ");
    ptq_html_text(out, m->calibration);
  }
}

static void begin_row(const ptq_frame *f, int64_t subject, ptq_text *out) {
  ptq_text_add(out, "<tr><th scope=\"row\">");
  ptq_html_subject(out, f, subject);
  ptq_text_add(out, "</th>");
}

/* How many directions are behind a basin: a mean of those alone that reach it
 * is too small, one without those that begin beyond it too large. */
static void reach_cell(const ptq_landscape_traits *t, int i, ptq_text *out) {
  ptq_text_addf(out, "<td>%lld of %lld", (long long)t->n_within[i],
                (long long)t->n_random);
  if (t->n_below[i] > 0)
    ptq_text_addf(out, ", %lld below", (long long)t->n_below[i]);
  ptq_text_add(out, "</td>");
}

static void model_row(const ptq_frame *f, int64_t m, ptq_text *out) {
  const ptq_landscape_traits *t = &f->landscape.models[m];
  begin_row(f, m, out);
  ptq_html_cell(out, (double)f->models[m].params_nonembedding, 3);
  for (int i = 0; i < PTQ_BASINS; i++) {
    const double radius = exp(t->log_basin[i]);
    ptq_html_cell(out, radius, 3);
    ptq_html_cell(out, radius * t->log_basin_se[i], 2);
    reach_cell(t, i, out);
  }
  ptq_html_cell(out, t->height, 3);
  ptq_html_cell(out, t->height_se, 2);
  ptq_html_cell(out, t->width, 3);
  ptq_html_cell(out, t->width_se, 2);
  ptq_text_addf(out, "<td>%lld of %lld</td>", (long long)t->n_steps,
                (long long)t->n_random);
  ptq_html_cell(out, t->curvature, 3);
  ptq_html_cell(out, t->anisotropy, 3);
  ptq_html_cell(out, t->gradient_norm, 3);
  ptq_html_cell(out, t->trace, 3);
  ptq_html_cell(out, t->trace_se, 2);
  ptq_html_cell(out, t->eigen_max, 3);
  ptq_html_cell(out, t->eigen_min, 3);
  ptq_html_cell(out, t->gauss_newton_trace, 3);
  ptq_html_cell(out, t->gauss_newton_max, 3);
  ptq_text_add(out, "</tr>\n");
}

static void displacement_row(const ptq_frame *f, const ptq_direction_traits *d,
                             ptq_text *out) {
  begin_row(f, d->row->subject, out);
  ptq_text_add(out, "<td class=\"t\">");
  ptq_html_text(out, d->row->dtype);
  ptq_text_addf(out, "</td><td class=\"t\">%s</td>", d->row->kind);
  ptq_html_cell(out, d->row->size, 3);
  ptq_html_cell(out, d->basin[1], 3);
  ptq_text_addf(out, "<td class=\"t\">%s</td>",
                d->inside ? "inside" : "beyond");
  ptq_html_cell(out, d->dnll_at_one, 3);
  ptq_html_cell(out, d->calib_at_one, 3);
  ptq_html_cell(out, ptq_landscape_quadratic(d->row, d->row->size), 3);
  ptq_html_cell(out, d->row->slope + d->row->gauss_newton / 2.0, 3);
  ptq_html_cell(out, d->row->gradient_curvature, 3);
  ptq_html_cell(out, d->quadratic_radius, 3);
  ptq_text_add(out, "</tr>\n");
}

static void models(const ptq_frame *f, ptq_text *out) {
  ptq_text_add(
      out,
      "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
      "<th class=\"t\">model</th><th>parameters</th><th>basin, 0.1 nat</th>"
      "<th>error</th><th>reach it</th><th>0.5 nat</th><th>error</th>"
      "<th>reach it</th><th>1 nat</th><th>error</th><th>reach it</th>"
      "<th>step height</th><th>error</th><th>step width</th><th>error</th>"
      "<th>have a "
      "step</th><th>curvature</th><th>anisotropy</th><th>|gradient|</th>"
      "<th>trace</th><th>error</th><th>largest eigenvalue</th>"
      "<th>smallest</th><th>trace of Gauss-Newton</th><th>its largest</th>"
      "</tr></thead><tbody>\n");
  for (int64_t m = 0; m < f->n_models; m++)
    if (f->landscape.models[m].n_random + f->landscape.models[m].n_rtn > 0)
      model_row(f, m, out);
  ptq_text_add(out, "</tbody></table></div>\n");
}

static void displacements(const ptq_frame *f, ptq_text *out) {
  ptq_text_add(
      out, "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
           "<th class=\"t\">model</th><th class=\"t\">dtype</th>"
           "<th class=\"t\">method</th><th>size</th>"
           "<th>basin along it, 0.5 nat</th><th class=\"t\">it ends</th>"
           "<th>ΔNLL</th><th>ΔNLL, calibration text</th>"
           "<th>quadratic prediction of it</th><th>with Gauss-Newton</th>"
           "<th>g’He</th><th>quadratic holds to</th></tr></thead><tbody>\n");
  for (int64_t i = 0; i < f->landscape.n; i++) {
    const ptq_direction_traits *d = &f->landscape.directions[i];
    if (ptq_direction_quantizes(d->row)) displacement_row(f, d, out);
  }
  ptq_text_add(out, "</tbody></table></div>\n");
}

void ptq_page_landscape(const ptq_frame *f, ptq_text *out) {
  if (f->landscape.n == 0) return;
  ptq_text_add(
      out,
      "<h2 id=\"landscape\">The loss around the weights</h2>\n<p>Lengths of "
      "displacements are over that of the weights. Basins end where the loss "
      "has risen by so much, a geometric mean over the random directions that "
      "reach it within their radii: those that do not lie beyond, and where "
      "the loss has risen so far at the smallest radius already (“below”) the "
      "basin is not known. Height and width are of a sigmoid in ln radius, of "
      "the directions whose profile bounds its height; curvature is the second "
      "derivative by the radius. Anisotropy is ln of the basin along RTN’s "
      "displacements over that along random directions: below 0 the loss is "
      "steeper along quantization. Errors are over directions, and of the "
      "trace over probes.</p>\n");
  models(f, out);
  ptq_text_add(
      out, "<p>What a method does with each dtype: the size of its "
           "displacement, whether "
           "it lies within the basin along itself, and g’e + e’He/2 beside the "
           "loss that is measured; the same with the Gauss-Newton matrix in "
           "H’s place, which knows no negative curvature; and the radius up to "
           "which the former stays within a tenth, or 0.01 nat.</p>\n");
  displacements(f, out);
}
