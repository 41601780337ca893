/*
 * shared.c
 *	  What decoders, deliveries and whoever asks know of each other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "sync/internal.h"

SyncShared *ordflow_sync_shared = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* This database's decoder, once this process has found it. */
static DecoderShared *decoder = NULL;

static void
request_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(sizeof(SyncShared));
}

static void
startup(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	ordflow_sync_shared = ShmemInitStruct("ordflow syncs", sizeof(SyncShared), &found);
	if (found)
		return;
	memset(ordflow_sync_shared, 0, sizeof(SyncShared));
	SpinLockInit(&ordflow_sync_shared->mutex);
	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
		SpinLockInit(&ordflow_sync_shared->decoders[i].mutex);
	for (int i = 0; i < SYNC_DELIVERIES_MAX; i++)
		SpinLockInit(&ordflow_sync_shared->deliveries[i].mutex);
	for (int i = 0; i < SYNC_PULLS_MAX; i++)
		SpinLockInit(&ordflow_sync_shared->pulls[i].mutex);
}

/*
 * What this transaction wrote is in the WAL, and flushed unless it was told not to wait: the
 * decoder looks.  Neither allocates nor raises.
 */
static void
at_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT || !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	if (decoder == NULL || decoder->database != MyDatabaseId)
		decoder = ordflow_decoder_shared(false);
	if (decoder != NULL)
		ordflow_decoder_wake();
}

void
ordflow_sync_memory_init(void)
{
	if (!ordflow_preloaded)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
	RegisterXactCallback(at_end, NULL);
}

static void
clear_decoder(DecoderShared *place)
{
	SpinLockAcquire(&place->mutex);
	memset((char *) place + sizeof(slock_t), 0, sizeof(DecoderShared) - sizeof(slock_t));
	place->database = MyDatabaseId;
	SpinLockRelease(&place->mutex);
}

/* One that nobody runs for is another database's where there is no free place. */
DecoderShared *
ordflow_decoder_shared(bool make)
{
	DecoderShared *place = NULL;
	DecoderShared *idle = NULL;

	if (ordflow_sync_shared == NULL)
		return NULL;
	SpinLockAcquire(&ordflow_sync_shared->mutex);
	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
	{
		DecoderShared *other = &ordflow_sync_shared->decoders[i];

		if (other->database == MyDatabaseId)
		{
			place = other;
			break;
		}
		if (make && place == NULL && !OidIsValid(other->database))
			place = other;
		if (make && idle == NULL && other->latch == NULL)
			idle = other;
	}
	if (place == NULL)
		place = idle;
	if (place != NULL && place->database != MyDatabaseId)
		clear_decoder(place);
	SpinLockRelease(&ordflow_sync_shared->mutex);
	return place;
}

/* Does its decoder run, which knows places by their address?  The mutex of all is held. */
static bool
is_at_work(Oid database)
{
	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
		if (ordflow_sync_shared->decoders[i].database == database &&
			ordflow_sync_shared->decoders[i].latch != NULL)
			return true;
	return false;
}

static void
clear_delivery(DeliveryShared *place)
{
	SpinLockAcquire(&place->mutex);
	memset((char *) place + sizeof(slock_t), 0, sizeof(DeliveryShared) - sizeof(slock_t));
	SpinLockRelease(&place->mutex);
}

DeliveryShared *
ordflow_delivery_shared(int64 delivery_id, bool make)
{
	DeliveryShared *place = NULL;
	DeliveryShared *idle = NULL;

	if (ordflow_sync_shared == NULL)
		return NULL;
	SpinLockAcquire(&ordflow_sync_shared->mutex);
	for (int i = 0; i < SYNC_DELIVERIES_MAX; i++)
	{
		DeliveryShared *other = &ordflow_sync_shared->deliveries[i];

		if (other->database == MyDatabaseId && other->delivery_id == delivery_id)
		{
			place = other;
			break;
		}
		if (make && place == NULL && !OidIsValid(other->database))
			place = other;
		if (make && idle == NULL && other->latch == NULL && other->database != MyDatabaseId &&
			!is_at_work(other->database))
			idle = other;
	}
	if (place == NULL)
		place = idle;
	if (place != NULL &&
		(place->database != MyDatabaseId || place->delivery_id != delivery_id))
	{
		clear_delivery(place);
		place->database = MyDatabaseId;
		place->delivery_id = delivery_id;
	}
	SpinLockRelease(&ordflow_sync_shared->mutex);
	return place;
}

void
ordflow_delivery_forget(int64 delivery_id)
{
	DeliveryShared *place = ordflow_delivery_shared(delivery_id, false);

	if (place != NULL)
		clear_delivery(place);
}

/* The figures of a sync, or a free place, if need be of a database that sleeps; see above. */
static SyncFigure *
find_figure(int64 sync_id)
{
	SyncFigure *place = NULL;
	SyncFigure *idle = NULL;

	for (int i = 0; i < SYNC_FIGURES_MAX; i++)
	{
		SyncFigure *figure = &ordflow_sync_shared->figures[i];

		if (figure->database == MyDatabaseId && figure->sync_id == sync_id)
			return figure;
		if (place == NULL && !OidIsValid(figure->database))
			place = figure;
		if (place == NULL && idle == NULL && figure->database != MyDatabaseId &&
			!is_at_work(figure->database))
			idle = figure;
	}
	return place != NULL ? place : idle;
}

/* With the sync's number, whoever's it was. */
static SyncFigure *
take_figure(int64 sync_id)
{
	SyncFigure *figure = find_figure(sync_id);

	if (figure != NULL && (figure->database != MyDatabaseId || figure->sync_id != sync_id))
		*figure = (SyncFigure) {.database = MyDatabaseId,.sync_id = sync_id};
	return figure;
}

void
ordflow_sync_count(int64 sync_id, int64 rows, int64 letters)
{
	SyncFigure *figure;

	SpinLockAcquire(&ordflow_sync_shared->mutex);
	figure = take_figure(sync_id);
	if (figure != NULL)
	{
		figure->rows += rows;
		figure->letters += letters;
	}
	SpinLockRelease(&ordflow_sync_shared->mutex);
}

SyncFigure
ordflow_sync_figure(int64 sync_id)
{
	SyncFigure	result = {0};
	SyncFigure *figure;

	if (ordflow_sync_shared == NULL)
		return result;
	SpinLockAcquire(&ordflow_sync_shared->mutex);
	figure = find_figure(sync_id);
	if (figure != NULL && figure->database == MyDatabaseId && figure->sync_id == sync_id)
		result = *figure;
	SpinLockRelease(&ordflow_sync_shared->mutex);
	return result;
}

void
ordflow_sync_keep_figures(const int64 *sync_ids, int n)
{
	for (int i = 0; ordflow_sync_shared != NULL && i < SYNC_FIGURES_MAX; i++)
	{
		SyncFigure *figure = &ordflow_sync_shared->figures[i];
		int64		sync_id = figure->sync_id;
		bool		kept = figure->database != MyDatabaseId;

		for (int k = 0; k < n && !kept; k++)
			kept = sync_ids[k] == sync_id;
		if (kept)
			continue;
		SpinLockAcquire(&ordflow_sync_shared->mutex);
		if (figure->database == MyDatabaseId && figure->sync_id == sync_id)
			memset(figure, 0, sizeof(SyncFigure));
		SpinLockRelease(&ordflow_sync_shared->mutex);
	}
}

bool
ordflow_deliveries_forget(void)
{
	bool		all = true;

	SpinLockAcquire(&ordflow_sync_shared->mutex);
	for (int i = 0; i < SYNC_DELIVERIES_MAX; i++)
	{
		DeliveryShared *place = &ordflow_sync_shared->deliveries[i];

		if (place->database != MyDatabaseId)
			continue;
		if (place->latch == NULL)
			clear_delivery(place);
		else
			all = false;
	}
	SpinLockRelease(&ordflow_sync_shared->mutex);
	return all;
}

void
ordflow_decoder_wake(void)
{
	DecoderShared *place = decoder != NULL ? decoder : ordflow_decoder_shared(false);
	Latch	   *latch = NULL;

	if (place == NULL || place->latch == NULL || place->latch == MyLatch)
		return;
	SpinLockAcquire(&place->mutex);
	if (place->database == MyDatabaseId)
		latch = place->latch;
	SpinLockRelease(&place->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

void
ordflow_decoder_reload(void)
{
	DecoderShared *place = ordflow_decoder_shared(false);

	if (place == NULL)
		return;
	SpinLockAcquire(&place->mutex);
	place->reload = true;
	SpinLockRelease(&place->mutex);
	ordflow_decoder_wake();
}
