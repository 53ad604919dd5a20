#!/bin/sh
# Starts the server with the users of users.acl. The password comes from the secret's file, and only its hash goes further: no command
# line, no variable of the container and no file on disk holds it.
set -eu
umask 077

secret=/run/secrets/redis_password
# Of a blank file or a folder, the hash would be that of the empty password, which everybody has.
password=$(tr -d '\r\n' <"$secret") || password=
if [ -z "$password" ]; then
  echo "start.sh: $secret is blank or no file, or user $(id -u) may not read it: see 'Production' in README.md" >&2
  exit 1
fi
hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
sed "s/PASSWORD_SHA256/$hash/" /usr/local/etc/redis/users.acl >/run/redis/users.acl

exec docker-entrypoint.sh "$@" --aclfile /run/redis/users.acl
