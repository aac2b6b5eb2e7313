# A throw-away PostgreSQL server for the tests. Sourced by .ci/run; defines
#   postgres_start DIRECTORY   starts one there, on 127.0.0.1 and a free port; exports LINKSUB_TEST_POSTGRES.
#                              On failure returns 1 and says why in postgres_problem.
#   postgres_stop              ends it; harmless when none was started.
# shellcheck shell=bash

postgres_problem=""
postgres_data=""
postgres_bin=""

# The newest server's directory of programs, if there is one.
postgres_find() {
  local found
  for found in $({ ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null || true; } | sort -rV) \
      "$(dirname "$(command -v initdb 2>/dev/null || echo /nowhere/initdb)")"; do
    if [ -x "$found/initdb" ] && [ -x "$found/postgres" ]; then
      postgres_bin=$found
      return 0
    fi
  done
  return 1
}

postgres_install() {
  local sudo=""
  command -v apt-get >/dev/null || { postgres_problem="no server is installed and there is no apt-get"; return 1; }
  if [ "$(id -u)" -ne 0 ]; then
    sudo="sudo -n"
    $sudo true 2>/dev/null || { postgres_problem="no server is installed and installing one needs root"; return 1; }
  fi
  $sudo apt-get update -qq >/dev/null 2>&1 || true
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null 2>&1 ||
    { postgres_problem="apt-get could not install it"; return 1; }
}

# The server refuses to run as root: then it runs as postgres, or as nobody.
postgres_as() {
  if [ "$(id -u)" -ne 0 ]; then
    "$@"
  elif command -v setpriv >/dev/null; then
    setpriv --reuid="$postgres_user" --regid="$postgres_group" --clear-groups -- "$@"
  else
    su -s /bin/sh "$postgres_user" -c 'exec "$0" "$@"' -- "$@"
  fi
}

postgres_start() {
  local directory=$1 port
  postgres_find || { postgres_install && postgres_find; } || {
    postgres_problem=${postgres_problem:-"no server was found"}
    return 1
  }
  mkdir -p "$directory" || { postgres_problem="$directory cannot be made"; return 1; }
  if [ "$(id -u)" -eq 0 ]; then
    postgres_user=nobody
    if id postgres >/dev/null 2>&1; then postgres_user=postgres; fi
    postgres_group=$(id -gn "$postgres_user")
    chown "$postgres_user:$postgres_group" "$directory"
    # The temporary directory is closed to others; the server's user has to get through.
    chmod a+x "$(dirname "$directory")"
  fi
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  if ! (cd "$directory" && postgres_as "$postgres_bin/initdb" -D "$directory/data" -U linksub -A trust -E UTF8 \
      --no-sync >"$directory.initdb.log" 2>&1); then
    postgres_problem="initdb failed: $(tail -n 1 "$directory.initdb.log")"
    return 1
  fi
  postgres_data=$directory/data
  if ! (cd "$directory" && postgres_as "$postgres_bin/pg_ctl" -D "$postgres_data" -w -t 30 -l "$directory/server.log" \
      -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories= -c fsync=off" \
      start >"$directory.start.log" 2>&1); then
    postgres_problem="the server did not start: $(tail -n 1 "$directory.start.log")"
    postgres_data=""
    return 1
  fi
  export LINKSUB_TEST_POSTGRES="postgresql://linksub@127.0.0.1:$port/postgres"
}

postgres_stop() {
  [ -n "$postgres_data" ] || return 0
  (cd / && postgres_as "$postgres_bin/pg_ctl" -D "$postgres_data" -m immediate stop >/dev/null 2>&1) || true
  postgres_data=""
}
