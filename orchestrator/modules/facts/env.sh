# The environment of the steps: env NAME VALUE.
# Reads f_locale f_set_locale.
collect_env() (
  if [ -n "$f_set_locale" ]; then LC_ALL=$f_locale; else unset LC_ALL; fi
  awk 'BEGIN {
    for (name in ENVIRON) {
      if (name ~ /^(ORCH_|_$|AWK)/) continue
      value = ENVIRON[name]
      gsub(/\\/, "\\\\", value); gsub(/\t/, "\\t", value); gsub(/\n/, "\\n", value)
      printf "env\t%s\t%s\n", name, value
    }
  }'
)
collect_env
