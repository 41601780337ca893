/*
 * crontab.c
 *	  The times of a schedule, as cron writes them.
 *
 * A zone is a row of stretches with one offset each.  In each of them the next matching local time
 * is looked for; what lies in a gap between two, when clocks go forward, comes at its end.  Local
 * times that come again, when clocks go back, are passed over: but not where every hour matches,
 * as that means every hour that passes, and no more than those.
 */
#include "postgres.h"

#include "pgtime.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

#include "base/base.h"
#include "base/crontab.h"

PG_FUNCTION_INFO_V1(ordflow_next_slot);

#define FIELDS 6
#define INTERVAL_MAX 3600		/* seconds */
#define YEARS_AHEAD 9			/* around 2100 there are 8 from one 29 February to the next */
#define DAYS_AHEAD (YEARS_AHEAD * 366)

/* Clocks change by a day at most: where an island moves over the date line. */
#define CLOCKS_CHANGE_MAX (2 * SECS_PER_DAY)

#define LAST_DAY 1				/* bit 0 of the days */
#define ALL_HOURS 0xFFFFFFU

typedef struct CrontabField
{
	const char *name;
	int			min;
	int			max;
	const char *names;			/* three letters each, the first is min; NULL: none */
} CrontabField;

enum
{CRON_SECOND, CRON_MINUTE, CRON_HOUR, CRON_DAY, CRON_MONTH, CRON_WEEKDAY};

static const CrontabField fields[FIELDS] = {
	{"second", 0, 59, NULL},
	{"minute", 0, 59, NULL},
	{"hour", 0, 23, NULL},
	{"day", 1, 31, NULL},
	{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
	{"weekday", 0, 7, "sunmontuewedthufrisat"}
};

static const struct
{
	const char *name;
	const char *fields;
}			macros[] = {
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"},
	{"@monthly", "0 0 1 * *"},
	{"@weekly", "0 0 * * 0"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@hourly", "0 * * * *"}
};

/* ---- reading ---- */

static bool
refuse_field(const CrontabField *field, const char *text, const char *why, Problem *problem)
{
	return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, why, NULL,
						  "\"%s\" is no %s of a schedule", text, field->name);
}

/* A number, or a name where the field has any; at most so many digits.  False: there is none. */
static bool
read_value(const CrontabField *field, const char **at, int *value, bool *is_name)
{
	const char *p = *at;

	*value = 0;
	*is_name = false;
	while (isdigit((unsigned char) *p) && p - *at < 4)
		*value = *value * 10 + (*p++ - '0');
	if (p > *at)
	{
		*at = p;
		return !isdigit((unsigned char) *p);
	}
	for (int i = 0; field->names != NULL && field->names[i * 3] != '\0'; i++)
		if (pg_strncasecmp(p, field->names + i * 3, 3) == 0)
		{
			*value = field->min + i;
			*is_name = true;
			*at = p + 3;
			return true;
		}
	return false;
}

static bool
is_in_field(const CrontabField *field, int value)
{
	return value >= field->min && value <= field->max;
}

/* The part of an item before its step. */
static bool
read_range(const CrontabField *field, const char **at, int *from, int *to, bool *single)
{
	bool		is_name;

	*single = false;
	*from = field->min;
	*to = field->max;
	if (**at == '*' || **at == '?')
	{
		(*at)++;
		/* 7 is another name of 0 */
		if (field == &fields[CRON_WEEKDAY])
			*to = 6;
		return true;
	}
	if (!read_value(field, at, from, &is_name) || !is_in_field(field, *from))
		return false;
	*single = **at != '-';
	if (*single)
		return true;
	(*at)++;
	if (!read_value(field, at, to, &is_name) || !is_in_field(field, *to))
		return false;
	/* a week may end on a Sunday */
	if (is_name && field == &fields[CRON_WEEKDAY] && *to == 0)
		*to = 7;
	return *from <= *to;
}

/* An item of a list, whose text is changed. */
static bool
read_item(const CrontabField *field, const char *item, uint64 *bits, Problem *problem)
{
	const char *at = item;
	int			from;
	int			to;
	int			step = 1;
	bool		single;
	bool		is_name;

	if (field == &fields[CRON_DAY] && pg_strcasecmp(item, "L") == 0)
	{
		*bits |= LAST_DAY;
		return true;
	}
	if (!read_range(field, &at, &from, &to, &single))
		return refuse_field(field, item,
							psprintf("Values are %d to %d, ranges go upwards.", field->min,
									 field->max), problem);
	if (*at == '/')
	{
		at++;
		if (!read_value(field, &at, &step, &is_name) || is_name || step < 1 || step > field->max)
			return refuse_field(field, item,
								psprintf("A step is a number from 1 to %d.", field->max), problem);
		if (single)
			to = field->max;
	}
	else if (single)
		to = from;
	if (*at != '\0')
		return refuse_field(field, item, "It goes on behind its end.", problem);
	for (int i = from; i <= to; i += step)
		*bits |= UINT64CONST(1) << (field == &fields[CRON_WEEKDAY] ? i % 7 : i);
	return true;
}

static bool
read_field(const CrontabField *field, char *text, uint64 *bits, Problem *problem)
{
	char	   *item = text;

	*bits = 0;
	while (item != NULL)
	{
		char	   *comma = strchr(item, ',');

		if (comma != NULL)
			*comma = '\0';
		if (!read_item(field, item, bits, problem))
			return false;
		item = comma == NULL ? NULL : comma + 1;
	}
	return true;
}

static bool
is_star(const char *text)
{
	return *text == '*' || *text == '?';
}

static bool
read_fields(char **texts, Crontab *crontab, Problem *problem)
{
	uint64		bits[FIELDS];

	/* as cron has it: a field that begins so leaves it to the other one, whatever its step */
	crontab->any_day = is_star(texts[CRON_DAY]);
	crontab->any_weekday = is_star(texts[CRON_WEEKDAY]);
	for (int i = 0; i < FIELDS; i++)
		if (!read_field(&fields[i], texts[i], &bits[i], problem))
			return false;
	crontab->second = bits[CRON_SECOND];
	crontab->minute = bits[CRON_MINUTE];
	crontab->hour = bits[CRON_HOUR];
	crontab->day = bits[CRON_DAY];
	crontab->month = bits[CRON_MONTH];
	crontab->weekday = bits[CRON_WEEKDAY];
	crontab->any_hour = crontab->hour == ALL_HOURS;
	return true;
}

/* "30 seconds".  False: it is something else. */
static bool
read_interval(const char *text, Crontab *crontab)
{
	char	   *end;
	long		seconds = strtol(text, &end, 10);

	if (end == text || !isspace((unsigned char) *end))
		return false;
	while (isspace((unsigned char) *end))
		end++;
	if (pg_strcasecmp(end, "seconds") != 0 && pg_strcasecmp(end, "second") != 0)
		return false;
	crontab->interval = true;
	crontab->seconds = seconds < 1 || seconds > INTERVAL_MAX ? 0 : (int) seconds;
	return true;
}

/* Without what stands before and behind it. */
static char *
trimmed(const char *text)
{
	char	   *copy;
	char	   *end;

	while (isspace((unsigned char) *text))
		text++;
	copy = pstrdup(text);
	end = copy + strlen(copy);
	while (end > copy && isspace((unsigned char) end[-1]))
		*--end = '\0';
	return copy;
}

/* The place of the first is left for the seconds.  Returns how many there are, at most max + 1. */
static int
split(char *text, char **texts, int max)
{
	int			n = 0;
	char	   *state = NULL;

	for (char *field = strtok_r(text, " \t\r\n", &state); field != NULL;
		 field = strtok_r(NULL, " \t\r\n", &state))
	{
		if (n == max)
			return max + 1;
		texts[n++] = field;
	}
	return n;
}

bool
ordflow_crontab_parse(const char *text, Crontab *crontab, Problem *problem)
{
	char	   *copy = trimmed(text);
	char	   *texts[FIELDS + 1] = {"0"};
	int			n;

	memset(crontab, 0, sizeof(Crontab));
	if (read_interval(copy, crontab))
	{
		if (crontab->seconds > 0)
			return true;
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE,
							  psprintf("From 1 to %d seconds are allowed.", INTERVAL_MAX), NULL,
							  "\"%s\" is no interval of a schedule", text);
	}
	for (int i = 0; i < lengthof(macros); i++)
		if (pg_strcasecmp(copy, macros[i].name) == 0)
			copy = pstrdup(macros[i].fields);
	n = split(copy, texts + 1, FIELDS);
	if (n != FIELDS && n != FIELDS - 1)
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							  "Give minute, hour, day, month and weekday, and seconds before them "
							  "if you like; or @daily and the like; or \"30 seconds\".",
							  "\"%s\" is no schedule", text);
	return read_fields(n == FIELDS ? texts + 1 : texts, crontab, problem);
}

/* ---- the next time ---- */

static bool
day_matches(const Crontab *crontab, int julian)
{
	int			year;
	int			month;
	int			day;
	bool		by_day;
	bool		by_weekday;

	j2date(julian, &year, &month, &day);
	if ((crontab->month & (1U << month)) == 0)
		return false;
	by_day = (crontab->day & (1U << day)) != 0 ||
		((crontab->day & LAST_DAY) != 0 && day == day_tab[isleap(year)][month - 1]);
	by_weekday = (crontab->weekday & (1U << j2day(julian))) != 0;
	if (crontab->any_day || crontab->any_weekday)
		return by_day && by_weekday;
	return by_day || by_weekday;
}

/* The lowest bit from a place on, -1: none. */
static int
next_bit(uint64 bits, int from)
{
	if (from > 63 || (bits >> from) == 0)
		return -1;
	return from + pg_rightmost_one_pos64(bits >> from);
}

/* The first matching second of a day from one on, -1: none. */
static int
next_in_day(const Crontab *crontab, int from)
{
	int			hour = from / SECS_PER_HOUR;
	int			minute = from / SECS_PER_MINUTE % MINS_PER_HOUR;
	int			second = next_bit(crontab->second, from % SECS_PER_MINUTE);
	int			found;

	if (second < 0)
	{
		minute++;
		second = next_bit(crontab->second, 0);
	}
	if ((crontab->hour & (1U << hour)) != 0)
	{
		found = next_bit(crontab->minute, minute);
		if (found >= 0)
		{
			if (found > minute)
				second = next_bit(crontab->second, 0);
			return hour * SECS_PER_HOUR + found * SECS_PER_MINUTE + second;
		}
	}
	found = next_bit(crontab->hour, hour + 1);
	if (found < 0)
		return -1;
	return found * SECS_PER_HOUR + next_bit(crontab->minute, 0) * SECS_PER_MINUTE +
		next_bit(crontab->second, 0);
}

/* Seconds, of local times or of UTC, count from 1970 on; that one is never reached. */
#define NEVER PG_INT64_MAX

static int64
floor_div(int64 value, int64 by)
{
	return value / by - (value % by < 0);
}

/* The first matching local time from one on, but below the limit. */
static int64
next_local(const Crontab *crontab, int64 from, int64 limit)
{
	int64		day = floor_div(from, SECS_PER_DAY);
	int			second = from - day * SECS_PER_DAY;

	for (; day * SECS_PER_DAY < limit; day++, second = 0)
	{
		int			found = -1;

		if (day_matches(crontab, day + UNIX_EPOCH_JDATE))
			found = next_in_day(crontab, second);
		if (found >= 0)
			return day * SECS_PER_DAY + found < limit ? day * SECS_PER_DAY + found : NEVER;
	}
	return NEVER;
}

/* Of a zone: from one change of its clocks to the next, in UTC. */
typedef struct Stretch
{
	int64		begin;
	int64		end;
	int64		offset;
} Stretch;

static Stretch
stretch_at(int64 begin, pg_tz *zone, int64 end)
{
	Stretch		stretch = {.begin = begin, .end = end};
	pg_time_t	at = begin;
	pg_time_t	boundary;
	long		offset;
	long		after;
	int			is_dst;
	int			dst_after;

	if (pg_next_dst_boundary(&at, &offset, &is_dst, &boundary, &after, &dst_after, zone) == 1 &&
		boundary < end)
		stretch.end = boundary;
	stretch.offset = offset;
	return stretch;
}

/*
 * In one stretch, from an instant of UTC on; high is the local time up to which all has been
 * dealt with.
 */
static int64
next_in_stretch(const Crontab *crontab, const Stretch *stretch, int64 from, int64 high)
{
	int64		begin = stretch->begin + stretch->offset;
	int64		local = Max(from, stretch->begin) + stretch->offset;
	int64		found;

	/* what lies in the gap before it, if we do not come too late for that */
	if (!crontab->any_hour && from <= stretch->begin && high < begin &&
		next_local(crontab, high, begin) != NEVER)
		return stretch->begin;
	if (!crontab->any_hour)
		local = Max(local, high);
	found = next_local(crontab, local, stretch->end + stretch->offset);
	return found == NEVER ? NEVER : found - stretch->offset;
}

static int64
next_in_zone(const Crontab *crontab, pg_tz *zone, int64 from)
{
	int64		end = from + (int64) DAYS_AHEAD * SECS_PER_DAY;
	int64		begin = from - CLOCKS_CHANGE_MAX;
	int64		high = PG_INT64_MIN;

	while (begin < end)
	{
		Stretch		stretch = stretch_at(begin, zone, end);

		if (high == PG_INT64_MIN)
			high = begin + stretch.offset;
		if (stretch.end > from)
		{
			int64		found = next_in_stretch(crontab, &stretch, from, high);

			if (found != NEVER)
				return found;
		}
		high = Max(high, stretch.end + stretch.offset);
		begin = stretch.end;
	}
	return NEVER;
}

#define EPOCH_SECONDS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

TimestampTz
ordflow_crontab_next(const Crontab *crontab, struct pg_tz *zone, TimestampTz after)
{
	TimestampTz next;
	int64		found;

	if (TIMESTAMP_NOT_FINITE(after) || after > END_TIMESTAMP - USECS_PER_DAY ||
		after < MIN_TIMESTAMP + CLOCKS_CHANGE_MAX * USECS_PER_SEC)
		return DT_NOEND;
	if (crontab->interval)
	{
		int64		step = crontab->seconds * USECS_PER_SEC;

		return (floor_div(after, step) + 1) * step;
	}
	found = next_in_zone(crontab, zone, floor_div(after, USECS_PER_SEC) + EPOCH_SECONDS + 1);
	if (found == NEVER)
		return DT_NOEND;
	next = (found - EPOCH_SECONDS) * USECS_PER_SEC;
	return next < END_TIMESTAMP ? next : DT_NOEND;
}

pg_tz *
ordflow_crontab_zone(const char *name)
{
	pg_tz	   *zone = pg_tzset(name);

	return zone != NULL && pg_tz_acceptable(zone) ? zone : NULL;
}

Datum
ordflow_next_slot(PG_FUNCTION_ARGS)
{
	Crontab		crontab;
	const char *name;
	pg_tz	   *zone;
	TimestampTz next;

	ordflow_crontab_parse(ordflow_arg_text(fcinfo, 0, "schedule"), &crontab, NULL);
	name = ordflow_arg_text(fcinfo, 1, "time_zone");
	zone = ordflow_crontab_zone(name);
	if (zone == NULL)
		ordflow_refuse(NULL, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
					   "time zone \"%s\" is not known", name);
	ordflow_require_not_null(fcinfo, 2, "after");
	next = ordflow_crontab_next(&crontab, zone, PG_GETARG_TIMESTAMPTZ(2));
	if (next == DT_NOEND)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(next);
}
