# What probes and fixes may call (POSIX.1-2017 sh, and tools that both GNU and busybox have). Every
# module's script begins with these, without their comments. Their own variables are called f_….

# has COMMAND: whether there is such a command.
has() { command -v "$1" >/dev/null 2>&1; }
# lacks WHAT: fails, saying what this host lacks.
lacks() { echo "this host has no $1" >&2; exit 69; }
# conf KEY VALUE: a line of what `curl -K -` reads, so that no process shows the value.
conf() {
  case $2 in *"$o_nl"*) echo "a newline in $1" >&2; exit 64;; esac
  printf '%s = "%s"\n' "$1" "$(printf '%s\n' "$2" | sed 's/[\\"]/\\&/g')"
}
# present PATH: whether something is there, a dangling link included.
present() { [ -e "$1" ] || [ -L "$1" ]; }

# attributes PATH: sets f_type (absent, file, directory, link, other), f_mode (four octal
# digits), f_uid, f_gid, f_size. From `ls -ldn`, whose first fields POSIX.1-2017 fixes.
attributes() {
  f_type=absent f_mode= f_uid= f_gid= f_size=
  present "$1" || return 0
  case $1 in /*) f_path=$1;; *) f_path=./$1;; esac
  f_rest=$(LC_ALL=C ls -ldn "$f_path") || return
  f_bits=${f_rest%% *}
  f_rest=${f_rest#* }
  f_field; f_field; f_uid=$f_word; f_field; f_gid=$f_word; f_field; f_size=$f_word
  case $f_bits in
  -*) f_type=file;;
  d*) f_type=directory;;
  l*) f_type=link;;
  *) f_type=other;;
  esac
  f_bits=${f_bits#?} f_high=0 f_mode=
  for f_weight in 4 2 1; do
    f_who=${f_bits%"${f_bits#???}"} f_bits=${f_bits#???} f_low=0
    case $f_who in r??) f_low=4;; esac
    case $f_who in ?w?) f_low=$((f_low+2));; esac
    case $f_who in ??[xst]) f_low=$((f_low+1));; esac
    case $f_who in ??[sStT]) f_high=$((f_high+f_weight));; esac
    f_mode=$f_mode$f_low
  done
  f_mode=$f_high$f_mode
}
f_field() {
  while :; do case $f_rest in ' '*) f_rest=${f_rest# };; *) break;; esac; done
  f_word=${f_rest%% *} f_rest=${f_rest#* }
}
# uid USER, gid GROUP: the number on stdout; nothing where there is no such name.
uid() {
  case $1 in *[!0-9]*|'') id -u -- "$1" 2>/dev/null || id -u "$1" 2>/dev/null;; *) echo "$1";; esac
}
gid() {
  case $1 in
  *[!0-9]*|'')
    { getent group "$1" 2>/dev/null || cat /etc/group; } |
      while IFS=: read -r f_name f_x f_id f_x; do
        [ "$f_name" != "$1" ] || { echo "$f_id"; break; }
      done;;
  *) echo "$1";;
  esac
}
# owned OWNER GROUP: states owner and group of what attributes saw, in the words wanted where
# those mean the same number. An empty one is not stated.
owned() {
  [ "$1" ] && [ "$f_uid" ] && { [ "$(uid "$1")" = "$f_uid" ] && state owner "$1" || state owner "$f_uid"; }
  [ "$2" ] && [ "$f_gid" ] && { [ "$(gid "$2")" = "$f_gid" ] && state group "$2" || state group "$f_gid"; }
  :
}
# own PATH OWNER GROUP: as far as they are given; of a link itself, not of what it points to.
own() {
  [ -z "$2$3" ] || chown -h -- "$2${3:+:$3}" "$1"
}

# target PATH: sets target to PATH, made absolute or begun with ./, or to where its links lead.
target() {
  case $1 in /*) target=$1;; *) target=./$1;; esac
  f_hops=0
  while [ -L "$target" ]; do
    f_hops=$((f_hops+1))
    [ $f_hops -le 40 ] || { echo "$1 is a link that leads nowhere" >&2; return 1; }
    f_link=$(readlink -- "$target"; echo .)
    f_link=${f_link%??}
    case $f_link in /*) target=$f_link;; *) target=${target%/*}/$f_link;; esac
  done
}
# mended: whether the fix has run; for what is an act rather than a state, such as a restart.
mended() { [ "$o_off" ]; }

# digest FILE: its SHA-256 on stdout.
digest() {
  if has sha256sum; then f_sum=$(sha256sum <"$1")
  elif has shasum; then f_sum=$(shasum -a 256 <"$1")
  elif has openssl; then f_sum=$(openssl dgst -sha256 -r <"$1")
  else lacks "sha256sum, shasum or openssl"
  fi || return
  echo "${f_sum%% *}"
}
# same FILE: whether its bytes are the payload's.
same() {
  [ -f "$1" ] || return 1
  if [ -z "$o_digest" ]; then payload | cmp -s - "$1"
  elif [ "$o_staged" ]; then cmp -s -- "$o_staged" "$1"
  else
    attributes "$1"
    [ "$f_size" = "$o_size" ] && [ "$(digest "$1")" = "$o_digest" ]
  fi
}
# contents PATH [FILE]: states `contents`, which is wanted to be `as given`; FILE, where PATH
# leads to, is what is compared.
contents() {
  if same "$1"; then state contents 'as given'
  elif [ ! -f "$1" ]; then :
  else state contents 'different'; replaced "$1"
  fi
}
# replaced FILE: reports the text that is there, for a diff of it; nothing where it is long or
# no text.
replaced() {
  [ "$o_show" ] || return 0
  attributes "$1"
  [ "$f_size" -le 65536 ] || { o_tell old# long >&4; return 0; }
  tr -d '\000' <"$1" | cmp -s - "$1" || { o_tell old# binary >&4; return 0; }
  while IFS= read -r f_line; do o_tell old "$f_line"; done <"$1" >&4
  [ -z "$f_line" ] || { o_tell old "$f_line"; o_tell old# cut; } >&4
}
# beside PATH: sets temp to a new empty file beside it, only its owner's, that is gone when the
# fix ends.
beside() {
  case $1 in */*) temp=${1%/*}/;; *) temp=./;; esac
  temp=$temp.$ORCH_TEMP
  trap 'rm -f -- "$temp"' EXIT
  trap 'exit 143' TERM HUP INT
  (umask 077; set -C; : >"$temp")
}
# place PATH MODE OWNER GROUP: puts what beside made at PATH, in one step. What is not given stays
# as it was there, or as the umask has it.
place() {
  attributes "$1"
  f_was=$f_mode f_user=$f_uid f_team=$f_gid
  case $f_type in
  file) ;;
  directory) echo "$1 is a directory" >&2; return 1;;
  *) f_was= f_user= f_team=;;
  esac
  own "$temp" "${3:-$f_user}" "${4:-$f_team}"
  f_mask=$(umask)
  [ "${2:-$f_was}" ] || f_was=$(printf %04o $((0666 & ~0$f_mask)))
  chmod -- "${2:-$f_was}" "$temp"
  mv -f -- "$temp" "$1"
}
