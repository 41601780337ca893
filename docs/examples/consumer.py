#!/usr/bin/python3
"""Works on tasks of kind "report", as many of these processes as you like:

    consumer.py 'dbname=shop'

A claim belongs to the session, so there is no lease to choose and none to extend: when this process
dies its tasks are another's within some milliseconds. Behind PgBouncer in transaction mode add
lease => '5 min' to claim_tasks(), and call extend_task() for work that takes longer.
"""
import sys
import time
import traceback

import psycopg2
from psycopg2.extras import Json

KIND = "report"
AT_ONCE = 4     # tasks held at a time


def work(cursor, task_id, payload):
    """What is written through the cursor is committed with the task's end, or not at all."""
    cursor.execute(
        "INSERT INTO reports (task_id, month) VALUES (%s, %s)", (task_id, payload["month"])
    )
    time.sleep(payload.get("seconds", 0))
    return {"pages": 3}


def run_task(connection, task_id, token, payload):
    with connection, connection.cursor() as cursor:     # one transaction
        result = work(cursor, task_id, payload)
        cursor.execute(
            "SELECT ordflow.complete_task(%s, %s, %s)", (task_id, token, Json(result))
        )
        (answer,) = cursor.fetchone()
        if answer != "applied":         # the claim was lost: cancelled, or the lease was over
            connection.rollback()


def run_tasks(connection, tasks):
    for task_id, token, payload, attempt in tasks:
        print("task", task_id, "attempt", attempt, flush=True)
        try:
            run_task(connection, task_id, token, payload)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            raise                       # the connection is gone, and so are the claims
        except Exception as error:
            traceback.print_exc()
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT ordflow.fail_task(%s, %s, %s)", (task_id, token, str(error)))


def serve(conninfo):
    connection = psycopg2.connect(conninfo)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS reports"
            " (task_id bigint PRIMARY KEY, month int, made_at timestamptz DEFAULT now())"
        )
    while True:
        # Waiting holds no snapshot, and asks nothing while there is nothing to do.
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CALL ordflow.wait_for_tasks(%s, '1 h')", (KIND,))
            cursor.execute("SELECT * FROM ordflow.claim_tasks(%s, %s)", (KIND, AT_ONCE))
            tasks = cursor.fetchall()
        connection.autocommit = False
        run_tasks(connection, tasks)


def main():
    while True:
        try:
            serve(sys.argv[1] if len(sys.argv) > 1 else "")
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            print(str(error).strip(), "- again in a second", file=sys.stderr, flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
