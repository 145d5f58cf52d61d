# The Python of the host, if it has one.
# Reads f_tab f_nl.
collect_python() {
  for f_collect_python_name in python3 python python2; do
    has "$f_collect_python_name" || continue
    f_collect_python_version=$("$f_collect_python_name" -V 2>&1 </dev/null) || continue
    put python "$(command -v "$f_collect_python_name")" "${f_collect_python_version#Python }"
    return
  done
  put python '' ''
}
collect_python
