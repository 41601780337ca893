/*
 * order.h
 *	  Orders: requests on their way in, and the order whose row is locked.
 *
 * Every verb has one shape: lock the order's row, read the clock, decide by the
 * state that stands there, do the work, apply the event through
 * ordflow_machine_apply().  Locks are taken in one order everywhere: the order's
 * row (or its idempotency key), stock in the order of stock_id, purchase
 * limits, coupon.
 */
#ifndef ORDFLOW_ORDER_H
#define ORDFLOW_ORDER_H

#include "postgres.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "base/json.h"
#include "base/money.h"
#include "coupon/coupon.h"
#include "machine/machine.h"
#include "stock/stock.h"

/* ---- request.c: one order as it was asked for, parsed and priced ---- */

typedef struct OrderLine
{
	const char *sku;
	const char *location;		/* NULL: no stock is kept */
	int64		quantity;
	Datum		unit_price;		/* numeric */
	Money		amount;
	Money		discount;
	Jsonb	   *metadata;		/* NULL = none */
	int64		stock_id;		/* 0: no stock is kept */
	int64		limit_id;		/* 0: no purchase limit */
	int			stock_demand;	/* which of its order's demands it is in */
	int			limit_demand;
} OrderLine;

typedef struct OrderCharge
{
	const char *code;
	Money		amount;
} OrderCharge;

/* The closed list of what submit_orders answers. */
typedef enum SubmitResult
{
	SUBMIT_PENDING,				/* not decided yet */
	SUBMIT_OK,
	SUBMIT_DUPLICATE,
	SUBMIT_INSUFFICIENT_STOCK,
	SUBMIT_COUPON_REFUSED,
	SUBMIT_UNKNOWN_OBJECT,
	SUBMIT_KEY_CONFLICT,
	SUBMIT_LIMIT_REACHED,
	SUBMIT_INVALID,
	SUBMIT_REFUSED
} SubmitResult;

typedef struct OrderRequest
{
	/* as asked for */
	const char *customer;		/* NULL = a guest */
	const char *coupon_code;
	const char *idempotency_key;
	const char *order_no;
	const char *currency;
	int			decimals;
	Interval   *pay_within;
	Jsonb	   *metadata;
	int			nlines;
	OrderLine  *lines;
	int			ncharges;
	OrderCharge *charges;

	/* priced */
	bool		has_coupon;
	Coupon		coupon;
	Money		subtotal;
	Money		discount;
	Money		charges_total;
	Money		payable;

	/* decided */
	int			ordinal;		/* its place in a bulk call, from 1 */
	int			tries;			/* how often its key was found taken and then free */
	int			stage;			/* how far it came in this pass */
	SubmitResult result;
	Problem		problem;
	JsonBuild	detail;			/* an array of problem objects while not closed */
	int			nproblems;
	int64		order_id;
	const char *number;			/* order_no, or the order id */
	const char *state;
	TimestampTz expires_at;

	/* taken so far: what a refusal must give back */
	bool		stock_taken;
	bool		limits_taken;
	bool		coupon_taken;
	bool		written;		/* lines, charges, history, movements */
} OrderRequest;

/* Refuses the request with one more problem object; begin and end bracket its members. */
extern void ordflow_request_problem_begin(OrderRequest *request, SubmitResult result,
										  const char *name);
extern void ordflow_request_problem_end(OrderRequest *request);

/* A refused request that was withdrawn is pending again, as it was priced. */
extern void ordflow_request_reset(OrderRequest *request);

/* The array of problem objects; an empty array when there is none. */
extern Jsonb *ordflow_request_detail(OrderRequest *request);

/* Fills the parts of a request; false and a problem when they are bad input. */
extern bool ordflow_request_set_lines(OrderRequest *request, JsonbContainer *lines);
extern bool ordflow_request_set_charges(OrderRequest *request, JsonbContainer *charges);
extern bool ordflow_request_set_currency(OrderRequest *request, const char *currency);
extern bool ordflow_request_set_pay_within(OrderRequest *request, Interval *pay_within);
extern bool ordflow_request_from_json(OrderRequest *request, JsonbContainer *object);

/*
 * Computes subtotal, discount, charges and payable at a time; reads the coupon
 * without a lock.  Connected to SPI.  Refusals are problem objects.
 */
extern void ordflow_request_price(OrderRequest *request, TimestampTz now);

/*
 * What is wanted of stock, added up per (sku, location), and of limited skus, per
 * sku; each line notes which of the demands it went into.
 */
extern int	ordflow_request_stock_demands(OrderRequest *request, int owner, StockDemand *demands);
extern int	ordflow_request_limit_demands(OrderRequest *request, int owner, LimitDemand *demands);

/* Problem objects of a refused demand, the index-th of its order, with its lines. */
extern void ordflow_request_stock_refused(OrderRequest *request, const StockDemand *demand,
										  int index);
extern void ordflow_request_limit_refused(OrderRequest *request, const LimitDemand *demand,
										  int index);
extern void ordflow_request_coupon_refused(OrderRequest *request, const CouponRefusal *refusal);

/* Raises what a decided request was refused for. */
pg_noreturn extern void ordflow_request_raise(OrderRequest *request);

extern const char *ordflow_submit_result_name(SubmitResult result);

/* ---- write.c: the rows of new orders ---- */

/*
 * Inserts the orders' own rows, claiming their keys; inserted[i] false: the key or
 * the number was taken.
 */
extern void ordflow_orders_insert(OrderRequest **requests, int n, TimestampTz now,
								  bool *inserted);

/* Inserts lines, charges, history and movements of accepted orders. */
extern void ordflow_orders_insert_rest(OrderRequest **requests, int n, TimestampTz now);

/* ordflow.order_history, for state.c */
extern RowTable ordflow_order_history;

/* ---- state.c: what a change of state writes ---- */

/*
 * Sets the state of orders whose rows are locked; due is when it is left by itself (DT_NOEND:
 * never; not used for pending_payment), cancel_reason why, where the state is cancelled.
 */
extern void ordflow_orders_set_state(const int64 *order_ids, int n, const char *state,
									 TimestampTz now, TimestampTz due, const char *cancel_reason);

/* One more row for the history of each of several orders. */
typedef struct OrderEvent
{
	const char *event;
	const char *from_state;
	const char *to_state;
	const char *reason;			/* may be NULL */
	Jsonb	   *data;			/* may be NULL */
	TimestampTz now;
} OrderEvent;

extern void ordflow_orders_record(const int64 *order_ids, int n, const OrderEvent *event);

/* ---- twin.c: a taken key ---- */

/*
 * The order's row collided: with its twin (duplicate, or key_conflict), or with
 * another order's number (invalid).  False: neither is there any more, so try again.
 */
extern bool ordflow_settle_collision(OrderRequest *request);

/*
 * Has nobody claimed the order's key or number, not even a transaction that is still open?
 * Somebody may at any moment.
 */
extern bool ordflow_claim_is_free(const OrderRequest *request);

/*
 * A repeat has the answer of the first call, also where today it is refused at its
 * price: the coupon has ended or changed since.
 */
extern void ordflow_recall_twin(OrderRequest *request);

/* ---- order.c: the locked order, the machine's ops ---- */

typedef struct Order
{
	int64		order_id;
	char	   *customer;		/* NULL = a guest */
	char	   *state;
	char	   *currency;
	int			decimals;
	Money		payable;
	char	   *coupon;
	TimestampTz expires_at;
	TimestampTz due_at;			/* DT_NOEND = NULL */
	TimestampTz now;			/* the clock, read after the lock */
} Order;

extern void ordflow_order_init(void);

/* The target of machine "order": ordflow.orders. */
extern const MachineTarget *ordflow_order_target(void);

/* Locks the order's row and reads it and the clock; false = no such order.  Connected to SPI. */
extern bool ordflow_order_lock(int64 order_id, Order *order);

/* ordflow_order_lock(); OF004 when there is no such order. */
extern void ordflow_order_require(int64 order_id, Order *order);

extern bool ordflow_order_is(const Order *order, const char *state);

/* Applies an event to a locked order and follows its state. */
extern void ordflow_order_apply(Order *order, const char *event, const char *to_state,
								const char *reason, Jsonb *data);

/* OF001 for a verb in the order's state; hint may be NULL. */
pg_noreturn extern void ordflow_order_illegal(const Order *order, const char *event,
											  const char *hint);

/* One more row of an order's history that is no step of the machine. */
extern void ordflow_order_note(const Order *order, const char *event, const char *reason,
							   Jsonb *data);

/* ---- pay.c, refund.c: money on its way back ---- */

/* A refund of a payment as a whole, due or held; returns its id. */
extern int64 ordflow_refund_payment(int64 payment_id, const char *state, const char *reason,
									TimestampTz now);

/* Refunds due for all that is left of the orders' applied payments. */
extern void ordflow_refund_rest(const int64 *order_ids, int n, const char *reason,
								TimestampTz now);

/* A line number and a quantity, as ship_order and refund_order take them. */
typedef struct LineQuantity
{
	int			line_no;
	int64		quantity;
} LineQuantity;

/* Reads [{"line": 1, "quantity": 2}]; 22023 for a line named twice or an empty array. */
extern LineQuantity *ordflow_line_quantities(Jsonb *lines, int *n);

/* As a history's data: the same form. */
extern void ordflow_json_put_line_quantities(JsonBuild *b, const char *key,
											 const LineQuantity *lines, int n);

/* What is left of the lines of a locked order, in order of line_no. */
typedef struct OrderLineLeft
{
	int			line_no;
	int64		stock_id;		/* 0: no stock is kept */
	int64		limit_id;
	int64		quantity;
	int64		shipped;
	int64		returned;
	int64		cancelled;
	Money		payable;
	Money		refunded;
} OrderLineLeft;

extern OrderLineLeft *ordflow_order_lines(const Order *order, int *n);

#endif							/* ORDFLOW_ORDER_H */
