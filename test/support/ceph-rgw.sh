#!/usr/bin/env bash
# A real S3 server on loopback, from Debian's packages: one Ceph monitor, one in-memory OSD, one RADOS Gateway.
#   ceph-rgw.sh start DIR PORT [OWNER]   prints the endpoint when it answers (about 15 s); uses PORT to PORT+2 and
#                                        goes away by itself when the process OWNER is gone
#   ceph-rgw.sh stop DIR                 stops it and removes DIR
# Packages: apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-common curl
# Access key and secret key: minioadmin / minioadmin. It keeps nothing on disk once stopped.
# Seen: create-only (If-None-Match: *) and If-Match PUTs answer 412 PreconditionFailed as they should (16.2.15).
set -euo pipefail
verb=${1:?start or stop}; dir=${2:?a folder for its files}

stop() {
  local pids=() file pid
  for file in "$dir"/sock/*.pid; do
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    # A stale file may hold the number of somebody else's process by now.
    grep -qaE 'radosgw|ceph-(mon|osd)' "/proc/$pid/cmdline" 2>/dev/null || continue
    kill "$pid" 2>/dev/null && pids+=("$pid")
  done
  for _ in $(seq 40); do
    for pid in "${pids[@]:-0}"; do [ "$pid" != 0 ] && kill -0 "$pid" 2>/dev/null && { sleep 0.25; continue 2; }; done
    break
  done
  for pid in "${pids[@]:-0}"; do [ "$pid" != 0 ] && kill -9 "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}

if [ "$verb" = stop ]; then stop; exit 0; fi
port=${3:?a port}; owner=${4:-}
mon_v2=$((port + 1)); mon_v1=$((port + 2))
rm -rf "$dir"; mkdir -p "$dir"/{mon,osd,rgw,sock}; dir=$(cd "$dir" && pwd)
fsid=$(cat /proc/sys/kernel/random/uuid); osd=$(cat /proc/sys/kernel/random/uuid)
addr="[v2:127.0.0.1:$mon_v2/0,v1:127.0.0.1:$mon_v1/0]"
cat > "$dir/ceph.conf" <<CONF
[global]
fsid=$fsid
mon host=$addr
keyring=$dir/keyring
osd pool default size=1
osd pool default min size=1
mon allow pool size one=true
osd crush chooseleaf type=0
osd pool default pg num=4
osd pool default pgp num=4
osd pool default pg autoscale mode=off
run dir=$dir/sock
log file=$dir/\$name.log
admin socket=$dir/sock/\$name.\$pid.asok
pid file=$dir/sock/\$name.pid
mon data=$dir/mon
mon data avail crit=1
mon data avail warn=2
osd data=$dir/osd
osd objectstore=memstore
memstore device bytes=8589934592
[client.rgw.a]
# Without tcp_nodelay every answer of two packets waits 40 ms for a delayed acknowledgement.
rgw frontends=beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw data=$dir/rgw
CONF
export CEPH_CONF="$dir/ceph.conf"
{
  ceph-authtool -C -n mon. --gen-key --cap mon 'allow *' "$dir/keyring"
  for name in client.admin client.rgw.a; do
    ceph-authtool -n "$name" --gen-key --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' "$dir/keyring"
  done
  ceph-authtool -n osd.0 --gen-key --cap mon 'allow profile osd' --cap osd 'allow *' "$dir/keyring"
  monmaptool --create --clobber --fsid "$fsid" --addv a "$addr" "$dir/monmap"
  ceph-mon --mkfs -i a --monmap "$dir/monmap" --keyring "$dir/keyring"
  ceph-mon -i a
  timeout 30 ceph osd new "$osd"
  ceph-osd -i 0 --mkfs --osd-uuid "$osd"
  ceph-osd -i 0
  timeout 30 ceph osd crush add osd.0 1.0 host=localhost root=default
  timeout 100 radosgw -n client.rgw.a
  timeout 60 radosgw-admin user create --uid=test --display-name=test --access-key=minioadmin --secret-key=minioadmin
} > "$dir/start.log" 2>&1 || { tail -5 "$dir/start.log" >&2; stop; exit 1; }
if [ -n "$owner" ]; then
  # Whoever kills the owner outright leaves nobody to call stop.
  ( while kill -0 "$owner" 2>/dev/null && [ -d "$dir" ]; do sleep 2; done; stop ) </dev/null >/dev/null 2>&1 &
  disown
fi
for _ in $(seq 60); do
  curl -fs -o /dev/null -m 2 "http://127.0.0.1:$port/" && { echo "http://127.0.0.1:$port"; exit 0; }
  sleep 0.5
done
echo "the gateway did not answer" >&2; tail -5 "$dir"/*.log >&2; stop; exit 1
