/*
 * postgres_text.c
 *	  Texts that grow: statements, arrays, rows of COPY.
 */
#include "module/postgres.h"

#include <stdarg.h>

void
pgsink_text_empty(Text *text)
{
	text->length = 0;
	text->failed = false;
	if (text->data != NULL)
		text->data[0] = '\0';
}

/* Room for so many bytes more and a zero; false: there is none. */
static bool
reserve(Text *text, size_t more)
{
	size_t		size = Max(text->size, 1024);
	char	   *data;

	if (text->failed)
		return false;
	if (text->data != NULL && text->length + more < text->size)
		return true;
	while (size <= text->length + more)
		size *= 2;
	data = realloc(text->data, size);
	if (data == NULL)
	{
		text->failed = true;
		return false;
	}
	text->data = data;
	text->size = size;
	return true;
}

void
pgsink_text_add(Text *text, const char *data, size_t length)
{
	if (!reserve(text, length))
		return;
	memcpy(text->data + text->length, data, length);
	text->length += length;
	text->data[text->length] = '\0';
}

void
pgsink_text_printf(Text *text, const char *format,...)
{
	va_list		arguments;
	int			length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0 || !reserve(text, length))
	{
		text->failed = true;
		return;
	}
	va_start(arguments, format);
	vsnprintf(text->data + text->length, length + 1, format, arguments);
	va_end(arguments);
	text->length += length;
}

void
pgsink_text_element(Text *text, const char *value, size_t length)
{
	char	   *to;

	if (value == NULL)
	{
		pgsink_text_add(text, "NULL", 4);
		return;
	}
	if (!reserve(text, 2 * length + 2))
		return;
	to = text->data + text->length;
	*to++ = '"';
	for (size_t i = 0; i < length; i++)
	{
		if (value[i] == '"' || value[i] == '\\')
			*to++ = '\\';
		*to++ = value[i];
	}
	*to++ = '"';
	*to = '\0';
	text->length = to - text->data;
}

void
pgsink_text_copied(Text *text, const char *value, size_t length)
{
	char	   *to;

	if (value == NULL)
	{
		pgsink_text_add(text, "\\N", 2);
		return;
	}
	if (!reserve(text, 2 * length))
		return;
	to = text->data + text->length;
	for (size_t i = 0; i < length; i++)
	{
		char		c = value[i];

		if (c == '\\' || c == '\n' || c == '\r' || c == '\t')
			*to++ = '\\';
		*to++ = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : c;
	}
	*to = '\0';
	text->length = to - text->data;
}
