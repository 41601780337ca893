/*
 * crontab.h
 *	  Schedules: the times of a line as cron writes them, or of an interval.
 */
#ifndef ORDFLOW_CRONTAB_H
#define ORDFLOW_CRONTAB_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "base/error.h"

typedef struct Crontab
{
	bool		interval;		/* every so many seconds, from midnight 2000-01-01 UTC on */
	int			seconds;
	uint64		second;			/* bit i: i is in the list */
	uint64		minute;
	uint32		hour;
	uint32		day;			/* bit 0: the last of the month */
	uint32		month;
	uint32		weekday;		/* 0 = Sunday */
	bool		any_hour;
	bool		any_day;
	bool		any_weekday;
} Crontab;

extern bool ordflow_crontab_parse(const char *text, Crontab *crontab, Problem *problem);

/* The first time after another; DT_NOEND: none within 9 years. */
extern TimestampTz ordflow_crontab_next(const Crontab *crontab, struct pg_tz *zone,
										TimestampTz after);

/* A time zone by name; NULL: there is none. */
extern struct pg_tz *ordflow_crontab_zone(const char *name);

#endif							/* ORDFLOW_CRONTAB_H */
