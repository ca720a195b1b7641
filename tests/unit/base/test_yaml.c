/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "ptq/base/yaml.h"

static ptq_yaml_node *parse(const char *text) {
  ptq_yaml_node *root = NULL;
  ptq_err err = {0};
  if (ptq_yaml_parse("f.yaml", text, strlen(text), &root, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return root;
}

/* Parsing `size` bytes fails with `code` and a message that has `part`. */
static void refused(const char *text, size_t size, const char *part) {
  ptq_yaml_node *root = NULL;
  ptq_err err = {0};
  assert_int_equal(ptq_yaml_parse("f.yaml", text, size, &root, &err),
                   PTQ_E_FORMAT);
  assert_null(root);
  if (strstr(err.msg, part) == NULL) fail_msg("'%s' lacks '%s'", err.msg, part);
}

static void refused_text(const char *text, const char *part) {
  refused(text, strlen(text), part);
}

static void a_document_becomes_a_tree_that_knows_its_lines(void **state) {
  (void)state;
  ptq_yaml_node *root = parse("# comment\n"
                              "name: quick\n"
                              "grid:\n"
                              "  dtype: [int4, 'int3']\n"
                              "  group:\n"
                              "    - 32\n"
                              "    - row\n");
  assert_int_equal(root->kind, PTQ_YAML_MAP);
  assert_int_equal(root->n_children, 2);
  const ptq_yaml_node *name = ptq_yaml_get(root, "name");
  assert_string_equal(name->text, "quick");
  assert_int_equal(name->line, 2);
  const ptq_yaml_node *grid = ptq_yaml_get(root, "grid");
  assert_int_equal(grid->line, 3);
  const ptq_yaml_node *dtype = ptq_yaml_get(grid, "dtype");
  assert_int_equal(dtype->kind, PTQ_YAML_LIST);
  assert_int_equal(dtype->line, 4);
  assert_false(dtype->child->quoted);
  assert_string_equal(dtype->child->next->text, "int3");
  assert_true(dtype->child->next->quoted);
  const ptq_yaml_node *group = ptq_yaml_get(grid, "group");
  assert_int_equal(group->n_children, 2);
  assert_int_equal(group->child->next->line, 7);
  assert_null(ptq_yaml_get(root, "absent"));
  assert_null(ptq_yaml_get(name, "not a map"));
  assert_null(ptq_yaml_get(NULL, "x"));
  ptq_yaml_free(root);
  ptq_yaml_free(NULL);
}

static void a_broken_document_is_refused_with_its_line(void **state) {
  (void)state;
  refused_text("a: 1\nb: [1, 2\nc: 3\n", "f.yaml:3: ");
  refused_text("a: 1\n\tb: 2\n", "f.yaml:2: ");
  refused_text("a: 1\nb: 2\na: 3\n",
               "f.yaml:3: key 'a' appears twice (first in line 1)");
  refused_text("a: &x 1\nb: 2\n", "f.yaml:1: anchors");
  refused_text("a: 1\nb: *x\n", "f.yaml:2: aliases");
  refused_text("a: [1, 2]\n*x : 2\n", "f.yaml:2: aliases");
  refused_text("a: !!int 3\n", "f.yaml:1: tags");
  refused_text("? [1, 2]\n: 3\n", "f.yaml:1: a key must be a plain word");
  refused_text("", "f.yaml:1: the document is empty");
  refused_text("# nothing\n", "the document is empty");
  refused_text("a: 1\n---\nb: 2\n", "f.yaml:2: a second document");
  refused_text("a: \"x\\0y\"\n", "f.yaml:1: a text contains a NUL");
}

static void text_that_is_not_utf8_is_refused_with_its_line(void **state) {
  (void)state;
  refused_text("a: 1\nb: caf\xe9 au lait\n", "f.yaml:2: not UTF-8");
  static const char utf16[] = {'\xff', '\xfe', 'a', 0, ':', 0, ' ', 0, '1', 0};
  refused(utf16, sizeof utf16, "f.yaml:1: not UTF-8");
  static const char nul[] = {'a', ':', ' ', 0, '\n'};
  refused(nul, sizeof nul, "f.yaml:1: ");
}

static void a_byte_order_mark_is_skipped_once(void **state) {
  (void)state;
  ptq_yaml_node *root = parse("\xef\xbb\xbf"
                              "name: quick\nx: 1\n");
  const ptq_yaml_node *name = ptq_yaml_get(root, "name");
  assert_non_null(name);
  assert_string_equal(name->text, "quick");
  assert_int_equal(name->line, 1);
  assert_int_equal(ptq_yaml_get(root, "x")->line, 2);
  ptq_yaml_free(root);
  refused_text("\xef\xbb\xbf", "the document is empty");
  refused_text("\xef\xbb", "not UTF-8");
  refused_text("\xef\xbb\xbf"
               "a: 1\nb: \xff\n",
               "f.yaml:2: not UTF-8");
}

static void nesting_is_bounded(void **state) {
  (void)state;
  char text[2 * 40 + 1] = {0};
  memset(text, '[', 32);
  memset(text + 32, ']', 32);
  ptq_yaml_free(parse(text));
  memset(text, '[', 33);
  memset(text + 33, ']', 33);
  refused_text(text, "f.yaml:1: nested deeper than 32 levels");
  static char many[100000];
  memset(many, '[', sizeof many);
  refused(many, sizeof many, "nested deeper than 32 levels");
}

static void numbers_and_flags_are_read(void **state) {
  (void)state;
  ptq_yaml_node *root = parse("{i: -42, d: 3e9, t: true, f: false}");
  ptq_err err = {0};
  int64_t i = 0;
  double d = 0.0;
  bool b = false;
  assert_int_equal(ptq_yaml_int("p", ptq_yaml_get(root, "i"), &i, &err), 0);
  assert_int_equal(i, -42);
  assert_int_equal(ptq_yaml_double("p", ptq_yaml_get(root, "d"), &d, &err), 0);
  assert_true(d == 3e9);
  assert_int_equal(ptq_yaml_bool("p", ptq_yaml_get(root, "t"), &b, &err), 0);
  assert_true(b);
  assert_int_equal(ptq_yaml_bool("p", ptq_yaml_get(root, "f"), &b, &err), 0);
  assert_false(b);
  ptq_yaml_free(root);
}

static void wrong_types_are_named_with_line_and_key(void **state) {
  (void)state;
  /* clang-format off */
  static const struct { char type; const char *value, *message; } rows[] = {
    {'i', "3.5", "f.yaml:2: 'k' must be a whole number, got '3.5'"},
    {'i', "four", "'k' must be a whole number, got 'four'"},
    {'i', "\"4\"", "'k' must be a whole number, got the text '4'"},
    {'i', "0x10", "got '0x10'"},
    {'i', "", "got ''"},
    {'i', "+", "got '+'"},
    {'i', "99999999999999999999", "must be a whole number of 64 bits"},
    {'i', "[1]", "'k' must be a whole number, got a list"},
    {'i', "{a: 1}", "'k' must be a whole number, got a mapping"},
    {'d', "much", "'k' must be a number, got 'much'"},
    {'d', "nan", "'k' must be a number, got 'nan'"},
    {'d', "1e999", "'k' must be a number, got '1e999'"},
    {'d', "1.2.3", "got '1.2.3'"},
    {'b', "yes", "'k' must be true or false, got 'yes'"},
    {'b', "\"true\"", "got the text 'true'"},
  };
  /* clang-format on */
  for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
    char text[128] = "# first line\nk: ";
    strcat(text, rows[r].value);
    ptq_yaml_node *root = parse(text);
    const ptq_yaml_node *k = ptq_yaml_get(root, "k");
    ptq_err err = {0};
    int64_t i;
    double d;
    bool b;
    const ptq_status rc =
        rows[r].type == 'i'   ? ptq_yaml_int("f.yaml", k, &i, &err)
        : rows[r].type == 'd' ? ptq_yaml_double("f.yaml", k, &d, &err)
                              : ptq_yaml_bool("f.yaml", k, &b, &err);
    assert_int_equal(rc, PTQ_E_ARG);
    if (strstr(err.msg, rows[r].message) == NULL)
      fail_msg("'%s' lacks '%s'", err.msg, rows[r].message);
    ptq_yaml_free(root);
  }
}

static void a_value_of_the_command_line_is_named_as_such(void **state) {
  (void)state;
  ptq_yaml_node *root = parse("k: x");
  root->child->line = 0;
  ptq_err err = {0};
  int64_t i;
  assert_int_equal(ptq_yaml_int("f.yaml", root->child, &i, &err), PTQ_E_ARG);
  assert_string_equal(err.msg,
                      "f.yaml (--set): 'k' must be a whole number, got 'x'");
  ptq_yaml_free(root);
}

/* The same tree, but for lines; an empty text may have gained quotes. */
static void same_tree(const ptq_yaml_node *a, const ptq_yaml_node *b) {
  for (; a != NULL && b != NULL; a = a->next, b = b->next) {
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->n_children, b->n_children);
    assert_int_equal(a->key == NULL, b->key == NULL);
    if (a->key != NULL) assert_string_equal(a->key, b->key);
    if (a->kind == PTQ_YAML_SCALAR) {
      assert_string_equal(a->text, b->text);
      if (a->quoted) assert_true(b->quoted);
    }
    same_tree(a->child, b->child);
  }
  assert_null(a);
  assert_null(b);
}

static void what_is_written_reads_as_the_same_tree(void **state) {
  (void)state;
  static const char *const documents[] = {
      "name: quick\nmodels: [zoo/llama-*, {path: a b, train_tokens: 3.0e11}]\n",
      "a: {b: [1, -2, +3.5, -.5], c: '007', d: \"x\\ny\", 'e f': 'it''s'}\n",
      "grid:\n  dtype:\n    - int4\n    - 'int4:asym'\n    - mixed: m\n"
      "      default: int3\n      layers:\n"
      "        '*.layers.0.self_attn.q_proj.weight': {dtype: int6, group: 32}\n"
      "        '*.layers.0.self_attn.k_proj.weight': {dtype: int6, group: 32}\n"
      "  method: [rtn, {name: gptq, hessian: static}]\nexclude: []\n",
      "- - a\n  - b: c\n    d: [e]\n-\n- '~'\n- {}\n",
      "key: \"\xc3\xa4\xc2\xb5 \\\\ \\\" ' # no comment\"\nempty: ''\nnone:\n",
      "'just a text: with, [signs] & *more* !x %y @z `q | > - ? :'\n",
      "single\n",
      "[]\n"};
  for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
    ptq_yaml_node *root = parse(documents[i]);
    ptq_text once = {0}, twice = {0};
    ptq_yaml_write(root, &once);
    assert_int_equal(once.rc, PTQ_OK);
    ptq_yaml_node *again = parse(ptq_text_str(&once));
    same_tree(root, again);
    ptq_yaml_write(again, &twice);
    assert_string_equal(ptq_text_str(&once), ptq_text_str(&twice));
    ptq_yaml_free(root);
    ptq_yaml_free(again);
    ptq_text_release(&once);
    ptq_text_release(&twice);
  }
}

static void written_lines_are_for_people(void **state) {
  (void)state;
  ptq_text t = {0};
  ptq_yaml_node *root = parse("{a: {b: {c: 1}, d: [2, 3]}, e: [x, 'y z']}");
  ptq_yaml_write(root, &t);
  assert_string_equal(ptq_text_str(&t),
                      "a:\n  b: {c: 1}\n  d: [2, 3]\ne: [x, 'y z']\n");
  ptq_text_release(&t);
  ptq_yaml_free(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_written_reads_as_the_same_tree),
      cmocka_unit_test(written_lines_are_for_people),
      cmocka_unit_test(a_document_becomes_a_tree_that_knows_its_lines),
      cmocka_unit_test(a_broken_document_is_refused_with_its_line),
      cmocka_unit_test(text_that_is_not_utf8_is_refused_with_its_line),
      cmocka_unit_test(a_byte_order_mark_is_skipped_once),
      cmocka_unit_test(nesting_is_bounded),
      cmocka_unit_test(numbers_and_flags_are_read),
      cmocka_unit_test(wrong_types_are_named_with_line_and_key),
      cmocka_unit_test(a_value_of_the_command_line_is_named_as_such),
  };
  return cmocka_run_group_tests_name("base/yaml", tests, NULL, NULL);
}
