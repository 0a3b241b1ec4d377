/* Holds the programs of a process to AVX2, for `benches/peers.py --isa avx2`: preloaded, it makes CPUID fault, which some processors can, and answers
 * in its place, without AVX-512, AMX, AVX-VNNI and what came after them. Each thread begins as the one that made it, so that all are held.
 *
 *     cc -O1 -shared -fPIC -o hold.so hold.c
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* From the kernel's asm/prctl.h. */
enum { ARCH_SET_CPUID = 0x1012 };

/* Leaf 7: AVX-512's bits of EBX; of ECX (VBMI, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ); of EDX (4VNNIW, 4FMAPS, VP2INTERSECT, AMX,
 * FP16). GFNI, VAES and VPCLMULQDQ exist without AVX-512 but are of no use to a network. */
static const unsigned EBX_7 = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const unsigned ECX_7 = 1u << 1 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 14;
static const unsigned EDX_7 = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;

static long faulting(int on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !on); }

static void answer(int number, siginfo_t *info, void *context) {
  greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *at = (const unsigned char *)r[REG_RIP];
  /* The kernel sends the signal for CPUID with no address; anything else is a fault of the program. */
  if (info->si_code != SI_KERNEL || at[0] != 0x0f || at[1] != 0xa2) {
    signal(number, SIG_DFL);
    return;
  }
  unsigned leaf = (unsigned)r[REG_RAX], sub = (unsigned)r[REG_RCX], a, b, c, d;
  faulting(0);
  __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(sub));
  faulting(1);
  if (leaf == 7 && sub == 0) b &= ~EBX_7, c &= ~ECX_7, d &= ~EDX_7;
  /* All of it is later than AVX2: AVX-VNNI, BF16, AVX-IFMA, AVX-VNNI-INT8, AVX10. */
  if (leaf == 7 && sub == 1) a = b = c = d = 0;
  if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) a = b = c = d = 0;
  r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
  r[REG_RIP] += 2;
}

__attribute__((constructor)) static void hold(void) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (sigaction(SIGSEGV, &action, NULL) || faulting(1)) {
    fputs("hold: this processor's CPUID cannot be answered for\n", stderr);
    _exit(3);
  }
}
