# One run at a time in a folder, its trainers included; sourced by what starts trainers.
#
# torchrun gives each trainer its own session: it survives a kill of the launcher, of its process group and of the
# terminal, and keeps training in the folder of the next start. So the lock is something every child keeps, however it is
# started: standard input, an open file. Python closes files numbered above 2 in its children, and
# environment variables can be dropped. If the disk has locks (flock), other machines are kept out too.

lock=""
# lock_run FILE SCRIPT FOLDER: keep FILE until the last process started from here on has ended, or exit with status 2.
lock_run() {
  lock="$1"
  exec <> "$lock"
  local ids refused=0
  flock -w 1 0 2> /dev/null || refused=$? # 1: held, and not by `migician train progress`, which only looks; else: no locks here
  [ "$refused" != 0 ] || return 0
  ids="$(holders)"
  if [ -n "$ids" ]; then
    echo "$2: $3: processes of an earlier start still run: $ids. Wait for them, or end them: kill $ids" >&2
    exit 2
  elif [ "$refused" = 1 ]; then
    echo "$2: $3: in use by a process of another user or machine; wait for it, or end it there" >&2
    exit 2
  fi
}

# The ids of all other processes whose standard input is the lock, on one line.
holders() {
  local one ids=()
  for one in /proc/[0-9]*; do
    [ "${one#/proc/}" = $$ ] || [ "${one#/proc/}" = "$BASHPID" ] || ! [ "$one/fd/0" -ef "$lock" ] || ids+=("${one#/proc/}")
  done
  echo "${ids[*]}"
}

# End all that `holders` names, and come back when they are gone: asked first, killed after 20 s.
end_all() {
  local ids tries=0
  ids="$(holders)"
  [ -z "$ids" ] || kill $ids 2> /dev/null || true
  while ids="$(holders)" && [ -n "$ids" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || kill -9 $ids 2> /dev/null || true
    sleep 0.1
  done
}

# From here on end all that `holders` names and all that this script has running when it ends.
end_with_me() {
  # Asked to end twice, such as by Ctrl+C and by a script above, it still ends them all.
  trap 'trap "" HUP INT TERM; end_all; kill $(jobs -pr) 2> /dev/null || true; wait' EXIT
  trap 'exit 129' HUP # and so the trap above
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# run COMMAND ...: run it and wait for it. Of a command that is not in the background bash waits for the end before it
# hears a signal.
run() {
  "$@" <&0 & # else bash gives it /dev/null
  wait $!
}
