// graphile-worker 0.17: node graphile.mjs burn N ROUNDS | steady RATE SECONDS
import { run, makeWorkerUtils } from "graphile-worker";
import pg from "pg";

const { PGUSER, PGDATABASE, PGHOST } = process.env;
const connectionString = `postgres://${PGUSER}@/${PGDATABASE}?host=${PGHOST}`;
const [mode, ...numbers] = process.argv.slice(2);
const [first, second] = numbers.map(Number);
const utils = await makeWorkerUtils({ connectionString });
await utils.migrate();
const pool = new pg.Pool({ connectionString });
const batched = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };

function start(noop, more) {
  const worker = {
    connectionString, concurrentJobs: 24, maxPoolSize: 12, pollInterval: 200, ...more,
  };
  return run({ preset: { worker }, noHandleSignals: true, taskList: { noop } });
}

function seed(n) {
  return pool.query(
    `select graphile_worker.add_jobs(array(select json_populate_record(
       null::graphile_worker.job_spec, json_build_object('identifier', 'noop', 'payload',
       '{}'::json)) from generate_series(1, $1)))`, [n]);
}

async function burn(n, rounds) {
  for (let round = 0; round < rounds; round++)
    for (const name of ["default", "batched"]) {
      await seed(n);
      let done = 0, finish;
      const finished = new Promise((resolve) => (finish = resolve));
      const began = Date.now();
      const runner = await start(async () => { if (++done === n) finish(); },
        name === "batched" ? batched : {});
      await finished;
      console.log(name, Math.round((n * 1000) / (Date.now() - began)));
      await runner.stop();
    }
}

function percentile(values, p) {
  return values.sort((a, b) => a - b)[Math.ceil(values.length * p) - 1];
}

// To the start alone: when its end is committed the worker does not say.
async function steady(rate, seconds) {
  const starts = [];
  const runner = await start(async (payload) => { starts.push(Date.now() - payload.at); }, {});
  const total = rate * seconds;
  const began = Date.now();
  for (let sent = 0; sent < total; ) {
    const due = Math.min(total, Math.floor(((Date.now() - began) * rate) / 1000));
    const calls = [];
    for (; sent < due; sent++)
      calls.push(pool.query(
        "select graphile_worker.add_job('noop', json_build_object('at', $1::bigint))",
        [Date.now()]));
    await Promise.all(calls);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  while (starts.length < total) await new Promise((resolve) => setTimeout(resolve, 10));
  console.log(percentile(starts, 0.5), percentile(starts, 0.99));
  await runner.stop();
}

await (mode === "burn" ? burn(first, second) : steady(first, second));
process.exit(0);
