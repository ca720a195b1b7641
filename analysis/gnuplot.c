/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gnuplot.h"

#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char fonts[] =
    "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', "
    "'DejaVu Sans', sans-serif";

void ptq_gnuplot_quote(ptq_text *out, const char *text) {
  ptq_text_add(out, "'");
  for (const char *c = text; *c != '\0'; c++) {
    const unsigned char u = (unsigned char)*c;
    if (*c == '\'')
      ptq_text_add(out, "''");
    else
      ptq_text_addf(out, "%c", u < 32 || u == 127 ? ' ' : *c);
  }
  ptq_text_add(out, "'");
}

/* The child: stdin from `in`, stdout to `out`, stderr to `complaints`. It opens
 * its stdin by name, since gnuplot reads "-" a byte a system call. */
static ptq_status spawn(int in, int out, int complaints, pid_t *pid,
                        ptq_err *err) {
  posix_spawn_file_actions_t actions;
  char name[] = "gnuplot", defaults[] = "-d", from_stdin[] = "/dev/stdin";
  char *const argv[] = {name, defaults, from_stdin, NULL};
  int code = posix_spawn_file_actions_init(&actions);
  if (code == 0) {
    code = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    if (code == 0)
      code = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (code == 0)
      code =
          posix_spawn_file_actions_adddup2(&actions, complaints, STDERR_FILENO);
    if (code == 0)
      code = posix_spawnp(pid, "gnuplot", &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
  }
  if (code == ENOENT)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "plots are drawn by gnuplot, which is not in PATH; "
                    "install it (Debian: gnuplot-nox; clusters: module load "
                    "gnuplot)");
  if (code != 0)
    return PTQ_FAIL(err, PTQ_E_IO, "cannot start gnuplot: %s", strerror(code));
  return PTQ_OK;
}

static ptq_status drain(int fd, ptq_text *out, ptq_err *err) {
  char block[8192];
  for (;;) {
    const ssize_t n = read(fd, block, sizeof block - 1);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return PTQ_FAIL(err, PTQ_E_IO, "reading from gnuplot: %s",
                      strerror(errno));
    if (n == 0) break;
    block[n] = '\0';
    ptq_text_add(out, block);
  }
  if (out->rc != PTQ_OK) return PTQ_FAIL(err, out->rc, "picture of gnuplot");
  return PTQ_OK;
}

/* The first line gnuplot wrote that looks like a complaint. */
static void first_complaint(FILE *f, char *text, size_t size) {
  char line[256];
  text[0] = '\0';
  rewind(f);
  while (fgets(line, sizeof line, f) != NULL) {
    line[strcspn(line, "\r\n")] = '\0';
    if (strstr(line, "line ") != NULL || text[0] == '\0')
      (void)ptq_text_copy(text, size, line);
    if (strstr(line, "line ") != NULL) return;
  }
}

static ptq_status run(const char *script, ptq_text *raw, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int ends[2] = {-1, -1}, status = 0;
  pid_t pid = -1;
  FILE *in = tmpfile(), *complaints = tmpfile();
  if (in == NULL || complaints == NULL || fputs(script, in) < 0 ||
      fflush(in) != 0 || fseek(in, 0, SEEK_SET) != 0 || pipe(ends) != 0) {
    rc = PTQ_FAIL(err, PTQ_E_IO, "temporary files for gnuplot: %s",
                  strerror(errno));
    goto done;
  }
  PTQ_TRY(spawn(fileno(in), ends[1], fileno(complaints), &pid, err));
  close(ends[1]);
  ends[1] = -1;
  rc = drain(ends[0], raw, err);
  close(ends[0]); /* a child that still writes ends by SIGPIPE */
  ends[0] = -1;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (rc != PTQ_OK) goto done;
  char why[200];
  first_complaint(complaints, why, sizeof why);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 ||
      strstr(ptq_text_str(raw), "</svg>") == NULL)
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC, "gnuplot failed: %s", why);
done:
  if (ends[0] >= 0) close(ends[0]);
  if (ends[1] >= 0) close(ends[1]);
  if (in != NULL) fclose(in);
  if (complaints != NULL) fclose(complaints);
  return rc;
}

static bool starts(const char *at, const char *word) {
  return *at == *word && strncmp(at, word, strlen(word)) == 0;
}

/* Prefix ids and references to them; name real fonts; drop the prolog, which
 * may not stand inside a page, and gnuplot's own titles, which a browser would
 * show as tips. */
static void adapt(const char *raw, const char *id, const char *title,
                  ptq_text *svg) {
  static const char *const hooks[] = {"id=\"", "id='", "href='#", "href=\"#",
                                      "url(#"};
  const char *at = strstr(raw, "<svg");
  if (at == NULL) at = raw;
  const char *copied = at;
  bool titled = false;
  while (*at != '\0') {
    const char *hook = NULL, *end = NULL;
    if (starts(at, "<title>")) end = strstr(at, "</title>");
    if (starts(at, "<desc>")) end = strstr(at, "</desc>");
    if (end != NULL) {
      ptq_text_addf(svg, "%.*s", (int)(at - copied), copied);
      if (!titled) ptq_text_addf(svg, "<title>%s</title>", title);
      titled = true;
      at = copied = strchr(end, '>') + 1;
      continue;
    }
    for (size_t i = 0; i < sizeof hooks / sizeof hooks[0]; i++)
      if (starts(at, hooks[i])) hook = hooks[i];
    const bool font = starts(at, "font-family=\"");
    if (hook == NULL && !font) {
      at++;
      continue;
    }
    at += font ? strlen("font-family=\"") : strlen(hook);
    ptq_text_addf(svg, "%.*s%s%s", (int)(at - copied), copied,
                  font ? fonts : id, font ? "" : "-");
    if (font) at += strcspn(at, "\"");
    copied = at;
  }
  ptq_text_add(svg, copied);
}

ptq_status ptq_gnuplot_svg(const char *id, const char *title, int width,
                           int height, const char *script, ptq_text *svg,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text whole = {0}, raw = {0};
  ptq_text_addf(&whole,
                "set terminal svg size %d,%d dynamic enhanced "
                "font 'Helvetica,13' linewidth 1 background '#ffffff'\n"
                "set encoding utf8\n%s\nunset output\n",
                width, height, script);
  if (whole.rc != PTQ_OK) {
    rc = PTQ_FAIL(err, whole.rc, "script of plot '%s'", id);
    goto done;
  }
  PTQ_TRY(run(ptq_text_str(&whole), &raw, err));
  adapt(ptq_text_str(&raw), id, title, svg);
  if (svg->rc != PTQ_OK) rc = PTQ_FAIL(err, svg->rc, "plot '%s'", id);
done:
  ptq_text_release(&whole);
  ptq_text_release(&raw);
  return rc;
}
