/* The board mps2-an386, a Cortex-M4, as QEMU has it; the linker's map is tests/no_std/board/link/mps2.ld. Semihosting prints. */
#include <stdint.h>

#include "board.h"

extern uint32_t _data_start, _data_end, _data_load, _bss_start, _bss_end, _stack_bottom, _stack_top;
int main(void);

static const uint32_t PAINT = 0x57414e44;

void reset(void) {
  *(volatile uint32_t *)0xe000ed88 |= 0xf00000; /* CPACR: the floating-point unit is on */
  __asm__ volatile("dsb\nisb" ::: "memory");
  for (uint32_t *to = &_data_start, *from = &_data_load; to < &_data_end;) *to++ = *from++;
  for (volatile uint32_t *to = &_bss_start; to < &_bss_end;) *to++ = 0;
  uint32_t here;
  for (volatile uint32_t *to = &_stack_bottom; (uintptr_t)to < (uintptr_t)&here - 256;) *to++ = PAINT;
  board_exit(main());
}

static void fault(void) {
  static const char text[] = "a fault of the processor\n";
  board_write(text, sizeof text - 1);
  board_exit(1);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &_stack_top, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
};

static void semihosting(uint32_t operation, const void *argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void board_write(const char *text, size_t len) {
  for (; len; len--) semihosting(0x03, text++); /* SYS_WRITEC */
}

void board_exit(int status) {
  semihosting(0x18, (const void *)(uintptr_t)(status ? 0x20024 : 0x20026)); /* SYS_EXIT */
  for (;;) {
  }
}

size_t board_stack(void) {
  const volatile uint32_t *at = &_stack_bottom;
  while (at < &_stack_top && *at == PAINT) at++;
  return (size_t)((const volatile unsigned char *)&_stack_top - (const volatile unsigned char *)at);
}
