#!/bin/sh
# First process of the emulated Pi: a fresh overlay over the card's content, the file systems that programs expect,
# then the Pi's own sshd. Runs in mount, process and host name namespaces of its own, so nothing here needs undoing.
# Arguments: card's content, directory of this run (upper, work, root, cpuinfo), emulated CPU.
set -eu
card=$1 run=$2 cpu=$3
root=$run/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$card,upperdir=$run/upper,workdir=$run/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$run/cpuinfo" "$root/proc/cpuinfo"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty net/tun; do
    mkdir -p "$(dirname "$root/dev/$device")"
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/sshd"
hostname pi
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "QEMU_CPU=$cpu" chroot "$root" /usr/sbin/sshd -D -e
