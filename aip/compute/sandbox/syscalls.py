"""System calls by number, for the filter of a sandboxed process (`seccomp.py`).

Three kinds. *Allowed*: what an interpreter needs to compute, to keep time, to run threads and to use the files it can see.
*Judged*: allowed with some arguments. *Fatal*: what break-outs are made of and no agent needs; who tries is ended at once. All
others, those that a later kernel brings too, fail with EPERM: among them `socket`, `connect`, `bind`, `execve`, `fork`, `kill`.

Each is written `name=x86_64/aarch64`, `-` where an architecture has none. Source: `asm/unistd_64.h` and `asm-generic/unistd.h` of
Linux 6.1; the numbers of a system call never change.
"""

from __future__ import annotations

X86_64 = "x86_64"
AARCH64 = "aarch64"
MACHINES = (X86_64, AARCH64)

_ALLOWED = """
read=0/63 write=1/64 close=3/57 fstat=5/80 newfstatat=262/79 stat=4/- lstat=6/- statx=332/291 poll=7/-
ppoll=271/73 lseek=8/62 mmap=9/222 mprotect=10/226 munmap=11/215 brk=12/214 mremap=25/216 madvise=28/233
msync=26/227 mincore=27/232 rt_sigaction=13/134 rt_sigprocmask=14/135 rt_sigreturn=15/139
rt_sigpending=127/136 rt_sigsuspend=130/133 rt_sigtimedwait=128/137 sigaltstack=131/132 pause=34/-
pread64=17/67 pwrite64=18/68 readv=19/65 writev=20/66 preadv=295/69 pwritev=296/70 preadv2=327/286
pwritev2=328/287 access=21/- faccessat=269/48 faccessat2=439/439 pipe=22/- pipe2=293/59 select=23/-
pselect6=270/72 sched_yield=24/124 sched_getaffinity=204/123 sched_getparam=143/121
sched_getscheduler=145/120 sched_get_priority_max=146/125 sched_get_priority_min=147/126 getpriority=140/141
dup=32/23 dup2=33/- dup3=292/24 nanosleep=35/101 clock_nanosleep=230/115 clock_gettime=228/113
clock_getres=229/114 gettimeofday=96/169 time=201/- times=100/153 getitimer=36/102 setitimer=38/103
alarm=37/- timerfd_create=283/85 timerfd_settime=286/86 timerfd_gettime=287/87 getpid=39/172 gettid=186/178
getppid=110/173 getuid=102/174 geteuid=107/175 getgid=104/176 getegid=108/177 getgroups=115/158
getresuid=118/148 getresgid=120/150 getpgrp=111/- getpgid=121/155 getsid=124/156 uname=63/160 fcntl=72/25
flock=73/32 fsync=74/82 fdatasync=75/83 truncate=76/45 ftruncate=77/46 getdents=78/- getdents64=217/61
getcwd=79/17 chdir=80/49 fchdir=81/50 rename=82/- renameat=264/38 renameat2=316/276 mkdir=83/-
mkdirat=258/34 rmdir=84/- creat=85/- open=2/- openat=257/56 openat2=437/437 link=86/- linkat=265/37
unlink=87/- unlinkat=263/35 symlink=88/- symlinkat=266/36 readlink=89/- readlinkat=267/78 chmod=90/-
fchmod=91/52 fchmodat=268/53 umask=95/166 utime=132/- utimes=235/- utimensat=280/88 futimesat=261/-
getrusage=98/165 getrlimit=97/163 sysinfo=99/179 statfs=137/43 fstatfs=138/44 arch_prctl=158/-
set_tid_address=218/96 set_robust_list=273/99 get_robust_list=274/100 futex=202/98 futex_waitv=449/449
exit=60/93 exit_group=231/94 wait4=61/260 waitid=247/95 epoll_create=213/- epoll_create1=291/20
epoll_ctl=233/21 epoll_wait=232/- epoll_pwait=281/22 epoll_pwait2=441/441 eventfd=284/- eventfd2=290/19
rseq=334/293 membarrier=324/283 getrandom=318/278 getcpu=309/168 sendfile=40/71 copy_file_range=326/285
splice=275/76 fallocate=285/47 fadvise64=221/223 sync_file_range=277/84 restart_syscall=219/128
close_range=436/436 get_mempolicy=239/236 sendto=44/206 recvfrom=45/207 sendmsg=46/211 recvmsg=47/212
shutdown=48/210 getsockopt=55/209 getsockname=51/204 getpeername=52/205
"""

_JUDGED = """
clone=56/220 clone3=435/435 socketpair=53/199 prctl=157/167 ioctl=16/29 tgkill=234/131 prlimit64=302/261
"""

_FATAL = """
ptrace=101/117 process_vm_readv=310/270 process_vm_writev=311/271 kcmp=312/272 mount=165/40 umount2=166/39
pivot_root=155/41 chroot=161/51 fsopen=430/430 fsconfig=431/431 fsmount=432/432 fspick=433/433
open_tree=428/428 move_mount=429/429 mount_setattr=442/442 unshare=272/97 setns=308/268 bpf=321/280
perf_event_open=298/241 userfaultfd=323/282 keyctl=250/219 add_key=248/217 request_key=249/218
kexec_load=246/104 kexec_file_load=320/294 reboot=169/142 swapon=167/224 swapoff=168/225 init_module=175/105
finit_module=313/273 delete_module=176/106 create_module=174/- io_uring_setup=425/425 io_uring_enter=426/426
io_uring_register=427/427 open_by_handle_at=304/265 name_to_handle_at=303/264 acct=163/89 quotactl=179/60
settimeofday=164/170 clock_settime=227/112 clock_adjtime=305/266 adjtimex=159/171 sethostname=170/161
setdomainname=171/162 iopl=172/- ioperm=173/- syslog=103/116 setuid=105/146 setgid=106/144 setreuid=113/145
setregid=114/143 setresuid=117/147 setresgid=119/149 setgroups=116/159 setfsuid=122/151 setfsgid=123/152
capset=126/91 personality=135/92 modify_ldt=154/- pidfd_open=434/434 pidfd_getfd=438/438
pidfd_send_signal=424/424 process_madvise=440/440 lookup_dcookie=212/18 vhangup=153/58 nfsservctl=180/42
fanotify_init=300/262
"""


def _numbers(table: str, machine: str) -> dict[str, int]:
    column = MACHINES.index(machine)
    found = {}
    for item in table.split():
        name, _, numbers = item.partition("=")
        number = numbers.split("/")[column]
        if number != "-":
            found[name] = int(number)
    return found


def allowed(machine: str) -> dict[str, int]:
    return _numbers(_ALLOWED, machine)


def judged(machine: str) -> dict[str, int]:
    return _numbers(_JUDGED, machine)


def fatal(machine: str) -> dict[str, int]:
    return _numbers(_FATAL, machine)
