/* What the example needs of a board. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>

void board_write(const char *text, size_t len);
_Noreturn void board_exit(int status);
/* The bytes of stack that were used so far, at most. */
size_t board_stack(void);

#endif
