// What Tune gives away is what was measured, and no spreadsheet runs any of it.
import assert from 'node:assert/strict';
import test from 'node:test';
import { csvText, jsonText, linkText, settingsText } from '../../assets/page/tune/export.js';

globalThis.window = { location: { origin: 'http://here', pathname: '/page/' } };

// threshold, quality, low, high, LLM share, bytes, FLOPs, seconds
const POINTS = [[0, 0.5, 0.4, 0.6, 0, 10, 20, 30], [0.9, 0.75, 0.7, 0.8, 0.25, 20, 30, 40], [1.01, 1, 1, 1, 1, 40, 60, 50]];
const about = { policy: 'router', acceptance: 0.6, max_draft: 3, max_new_tokens: 9, seed: 7, pair: 'little ⇄ big', router: 'r1' };
const message = (more = {}) => ({ about: { ...about, ...more }, done: 3, total: 4 });
const picked = { kind: 'right', unit: 'bytes', points: POINTS, questions: 3, values: POINTS[1], threshold: 0.9, policy: 'router', measured: true };

test('settings and link have the dials, and a draft limit only where one was set', () => {
  assert.equal(settingsText(message(), picked), 'CITER_POLICY=router\nCITER_THRESHOLD=0.9\nCITER_ACCEPTANCE=0.6\nCITER_MAX_DRAFT=3\n');
  assert.equal(linkText(message(), picked), 'http://here/page/?threshold=0.9&acceptance=0.6&policy=router&max_draft=3');
  for (const text of [settingsText, linkText]) assert.doesNotMatch(text(message({ max_draft: 'auto' }), picked), /draft/i);
});

test('JSON has the point, what it was measured on, and the curve with costs beside the LLM alone', () => {
  const { settings, point, measured_on: on, curve } = JSON.parse(jsonText(message(), picked));
  assert.deepEqual(settings, { CITER_POLICY: 'router', CITER_THRESHOLD: 0.9, CITER_ACCEPTANCE: 0.6, CITER_MAX_DRAFT: 3 });
  assert.deepEqual([point.threshold, point.quality, point.low, point.high, point.llm_share, point.measured], [0.9, 0.75, 0.7, 0.8, 0.25, true]);
  assert.deepEqual([point.bytes, point.flops, point.cost_of_llm_only.bytes, point.cost_of_llm_only.flops], [20, 30, 0.5, 0.5]);
  assert.deepEqual([on.quality, on.prompts, on.prompts_done, on.prompts_given, on.seed, on.router], ['accuracy', 3, 3, 4, 7, 'r1']);
  assert.equal(curve.length, 3);
  assert.equal(curve[2].cost_of_llm_only.seconds, 1);
});

test('CSV has the curve as numbers, each point with the policy that gives it: at the ends a model alone', () => {
  const [head, ...rows] = csvText(message(), picked).trimEnd().split('\r\n').map((line) => line.split(','));
  assert.ok(head.includes('"accuracy"') && head.includes('"threshold"'));
  assert.deepEqual(rows.map((row) => row[0]), ['"slm"', '"router"', '"llm"']);
  assert.deepEqual(rows[1].slice(1, 9), POINTS[1].map(String));
});

test('no cell of the CSV is a formula, and quotes are doubled', () => {
  for (const bad of ['=HYPERLINK("http://x")', '+1', '-1+cmd', '@SUM(A1)', '\t=1', '\r=1', ' =1', '＝1']) {
    const text = csvText(message({ pair: bad, router: bad }), picked);
    assert.ok(text.includes(`"'${bad.replaceAll('"', '""')}"`), bad);
    assert.ok(!text.includes(`"${bad}`), bad);
  }
  assert.ok(csvText(message({ pair: 'a "b"' }), picked).includes('"a ""b"""'));
});
