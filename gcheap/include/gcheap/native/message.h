/* What the last failed call of the C API had to say, for each thread.  Included by one module. */
#ifndef GCHEAP_MESSAGE_H
#define GCHEAP_MESSAGE_H
#include <stdarg.h>
#include <stdio.h>

static __thread char gcheap_message[1000];

static inline const char *message_get(void) { return gcheap_message; }

__attribute__((format(printf, 1, 2), unused))
static void message_set(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(gcheap_message, sizeof gcheap_message, format, values);
    va_end(values);
}
#endif
