// pg-boss 10: node pgboss.mjs N ROUNDS: burns down N jobs in batches of 500 by 4 workers
import PgBoss from "pg-boss";

const { PGUSER, PGDATABASE, PGHOST } = process.env;
const connectionString = `postgres://${PGUSER}@/${PGDATABASE}?host=${PGHOST}`;
const [n, rounds] = process.argv.slice(2).map(Number);
const boss = new PgBoss({ connectionString, max: 10 });
boss.on("error", (error) => { console.error(error); process.exit(1); });
await boss.start();
for (let round = 0; round < rounds; round++) {
  const queue = `noop${round}`;
  await boss.createQueue(queue);
  for (let sent = 0; sent < n; sent += 10000)
    await boss.insert(Array.from({ length: Math.min(10000, n - sent) },
      () => ({ name: queue, data: {} })));
  let done = 0, finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const began = Date.now();
  for (let i = 0; i < 4; i++)
    await boss.work(queue, { batchSize: 500, pollingIntervalSeconds: 0.5 }, async (jobs) => {
      if ((done += jobs.length) >= n) finish();
    });
  await finished;
  console.log(Math.round((n * 1000) / (Date.now() - began)));
  await boss.offWork(queue);
}
process.exit(0);
