# The beginning of each script that collects facts (POSIX sh; of the tools, only those of POSIX are
# required). A fact is a line of its name and its fields, separated by tabs; a field has \\, \t and
# \n for a backslash, a tab and a newline. Variables are named as in functions.sh.
f_locale=${LC_ALL-}
f_set_locale=${LC_ALL+1}
f_tab='	'
f_nl='
'
export LC_ALL=C
has() { command -v "$1" >/dev/null 2>&1; }
# escaped TEXT: print it as a field.
# Reads f_tab f_nl.
escaped() {
  case $1 in
  *[\\"$f_tab$f_nl"]*)
    printf '%s\n' "$1" | awk '
      { gsub(/\\/, "\\\\"); gsub(/\t/, "\\t"); printf "%s%s", separator, $0; separator = "\\n" }';;
  *) printf %s "$1";;
  esac
}
# put NAME FIELD…: print a fact.
# Reads f_tab f_nl.
put() {
  f_put_line=$1
  shift
  for f_put_field; do f_put_line=$f_put_line$f_tab$(escaped "$f_put_field"); done
  printf '%s\n' "$f_put_line"
}
# first_line FILE: print its first line, or nothing.
first_line() {
  f_first_line_text=
  [ ! -r "$1" ] || read -r f_first_line_text 2>/dev/null <"$1" || :
  printf '%s\n' "$f_first_line_text"
}
