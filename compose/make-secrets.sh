#!/bin/sh
# Makes the secrets of compose.yaml and sandbox.yaml in compose/secrets; what is there already stays.
#
# The folder is for nobody else (0700). The files in it can be read by all: in a container each is
# mounted alone, and read by a user that this machine does not know.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets

made() { # NAME: a new secret in it, unless it is there
  [ -s "$1" ] || { od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$1"; chmod 444 "$1"; }
}
for name in flower_password demo_secret; do made "$name"; done

# The users of both servers: each stands in its file, with the name of its password between two @.
hashed() { # FILE PASSWORD…: that file, with hashes of these passwords
  file=$1; shift
  cp "../$file" "$file.new"
  for name in "$@"; do
    made "$name"
    hash=$(sha256sum <"$name" | cut -d' ' -f1)
    sed "s/@$name@/$hash/" "$file.new" >"$file.next"
    mv "$file.next" "$file.new"
  done
}
hashed store_users admin_password store_password
hashed broker_users broker_admin_password broker_password flower_broker_password
printf '{"clients": {"demo": "%s"}, "latency_ms": 80, "limits": [{"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}]}\n' \
  "$(cat demo_secret)" >sandbox_config.new
for name in store_users broker_users sandbox_config; do chmod 444 "$name.new"; mv "$name.new" "$name"; done
echo "secrets are in $(pwd); Flower: user headgate, password in flower_password"
