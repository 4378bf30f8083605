// What is taken away: settings, link, JSON, CSV. Made in the browser of what is on the page; pure functions but for `save`.

// The policy that gives what was measured: the ends are the models alone, without the router's own cost.
const policyOf = (message, points, place) => (place === 0 ? 'slm' : place === points.length - 1 ? 'llm' : message.about.policy);

const settingsText = (pick) => `CITER_POLICY=${pick.policy}\nCITER_THRESHOLD=${pick.threshold}\n`;

const linkText = (pick) => {
  const link = new URL(window.location.pathname, window.location.origin);
  link.search = new URLSearchParams({ threshold: pick.threshold, policy: pick.policy });
  return link.href;
};

const namedPoint = (points, values) => ({
  threshold: values[THRESHOLD], quality: values[QUALITY], low: values[LOW], high: values[HIGH], llm_share: values[SHARE],
  ...Object.fromEntries(Object.entries(UNITS).map(([unit, column]) => [unit, values[column]])),
  cost_of_llm_only: Object.fromEntries(Object.keys(UNITS).map((unit) => [unit, relative(points, values, unit)])),
});

const QUALITY_NAMES = { right: 'accuracy', same: 'agreement with the LLM-only text' };

const jsonText = (message, kind, pick, unit) => {
  const { points, questions } = message.curves[kind], { about } = message;
  const value = {
    format: 1,
    what: 'operating point measured on own prompts with CITER Playground',
    settings: { CITER_POLICY: pick.policy, CITER_THRESHOLD: pick.threshold },
    point: { ...namedPoint(points, pick.values), threshold: pick.threshold, measured: pick.measured },
    unit,
    measured_on: {
      quality: QUALITY_NAMES[kind], prompts: questions, prompts_done: message.done, prompts_given: message.total,
      pair: about.pair, preset: about.preset, device: about.device, policy: about.policy, router: about.router,
      max_new_tokens: about.max_new_tokens, decoding: 'greedy', seed: about.seed,
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
  const text = String(value ?? ''), begin = /^[\s]*[=+\-@＝＋－＠]|^[\t\r]/.test(text) ? "'" : '';
  return `"${begin}${text.replaceAll('"', '""')}"`;
};

const csvText = (message, kind) => {
  const { points, questions } = message.curves[kind], { about } = message, last = points.length - 1;
  const columns = ['policy', 'threshold', QUALITY_NAMES[kind], 'low', 'high', 'llm_share', 'bytes', 'flops', 'seconds', 'prompts', 'pair', 'router'];
  const rows = points.map((point, i) => [policyOf(message, points, i), ...point, questions, about.pair, i > 0 && i < last ? about.router : '']);
  return [columns, ...rows].map((row) => row.map(csvCell).join(',')).join('\r\n') + '\r\n';
};

const save = (name, type, text) => {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

// Without a secure address a browser gives no clipboard; then the field is selected, for a hand to copy.
const copy = async (field) => {
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    field.select();
    try { return document.execCommand('copy'); } catch { return false; }
  }
};
