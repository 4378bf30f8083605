// What is taken away: settings, link, JSON, CSV. Made in the browser of what is on the page; pure functions.
import { HIGH, LOW, QUALITY, relative, SHARE, THRESHOLD, UNITS } from '../lib/curve.js';
import { QUALITY_NAMES } from './words.js';

// The policy that gives what was measured: the ends are the models alone, without the router's own cost.
export const policyOf = (about, points, place) => (place === 0 ? 'slm' : place === points.length - 1 ? 'llm' : about.policy);

const settingsOf = ({ acceptance, max_draft }, { policy, threshold }) => ({
  CITER_POLICY: policy, CITER_THRESHOLD: threshold, CITER_ACCEPTANCE: acceptance,
  ...(max_draft === 'auto' ? {} : { CITER_MAX_DRAFT: max_draft }),
});

export const settingsText = ({ about }, picked) => Object.entries(settingsOf(about, picked)).map((pair) => `${pair.join('=')}\n`).join('');

export const linkText = ({ about: { acceptance, max_draft } }, { policy, threshold }) => {
  const draft = max_draft === 'auto' ? {} : { max_draft }, query = new URLSearchParams({ threshold, acceptance, policy, ...draft });
  return `${window.location.origin}${window.location.pathname}?${query}`;
};

const byUnit = (value) => Object.fromEntries(Object.keys(UNITS).map((unit) => [unit, value(unit)]));

const namedPoint = (points, values) => ({
  threshold: values[THRESHOLD], quality: values[QUALITY], low: values[LOW], high: values[HIGH], llm_share: values[SHARE],
  ...byUnit((unit) => values[UNITS[unit]]),
  cost_of_llm_only: byUnit((unit) => relative(points, values, unit)),
});

export const jsonText = ({ about, done, total }, { kind, unit, points, questions, values, threshold, policy, measured }) => {
  const { pair, preset, device, router, acceptance, max_draft, max_new_tokens, seed } = about;
  const value = {
    format: 1,
    what: 'operating point measured on own prompts with CITER Playground',
    settings: settingsOf(about, { policy, threshold }),
    point: { ...namedPoint(points, values), threshold, measured },
    unit,
    measured_on: {
      quality: QUALITY_NAMES[kind], prompts: questions, prompts_done: done, prompts_given: total,
      pair, preset, device, policy: about.policy, router, acceptance, max_draft, max_new_tokens, decoding: 'greedy', seed,
      intervals: '95 % percentile bootstrap over prompts', seconds: 'modelled from measured passes', costs: 'mean per prompt',
    },
    curve: points.map((point) => namedPoint(points, point)),
    made: new Date().toISOString(),
  };
  return `${JSON.stringify(value, null, 1)}\n`;
};

// A cell that no spreadsheet runs: text is quoted, and what begins as a formula does gets an apostrophe before it.
const csvCell = (value) => {
  if (typeof value === 'number') return String(value);
  const begin = /^[\s]*[=+\-@＝＋－＠]|^[\t\r]/.test(value) ? "'" : '';
  return `"${begin}${value.replaceAll('"', '""')}"`;
};

export const csvText = ({ about }, { kind, points, questions }) => {
  const columns = ['policy', 'threshold', QUALITY_NAMES[kind], 'low', 'high', 'llm_share', 'bytes', 'flops', 'seconds', 'acceptance', 'prompts', 'pair', 'router'];
  const rows = points.map((point, i) => {
    const policy = policyOf(about, points, i);
    return [policy, ...point, about.acceptance, questions, about.pair, policy === about.policy ? about.router ?? '' : ''];
  });
  return [columns, ...rows].map((row) => `${row.map(csvCell).join(',')}\r\n`).join('');
};
