// Tune on my prompts: progress, the curve with one handle, and the setting to take away. Texts are written with `textContent`.
import { openChannel } from '../lib/channel.js';
import { copy, finder, make, makeButton, perFrame, say } from '../lib/dom.js';
import { counted, thresholdWords, wholePercent } from '../lib/format.js';
import { openTab } from '../lib/tabs.js';
import { startPoints } from './chart.js';

const [THRESHOLD, QUALITY, LOW, HIGH, SHARE, BYTES] = Array(6).keys();   // columns of a point
const HARDLY_WORSE = 0.02;   // how much quality the recommended setting may lose against the large model
const AXES = { right: 'right answers', same: 'agreement with the large model' };
const AGREEMENT = 'Agreement is 1 − edit distance to the large model’s text, in tokens of the longer text.';

// The cheapest point that is hardly worse than the large model. Of equally cheap points it is the better one.
export const recommended = (points) => {
  const enough = points.at(-1)[QUALITY] - HARDLY_WORSE - 1e-9;
  const better = (a, b) => points[a][BYTES] < points[b][BYTES] || (points[a][BYTES] === points[b][BYTES] && points[a][QUALITY] > points[b][QUALITY]);
  return [...points.keys()].filter((i) => points[i][QUALITY] >= enough).reduce((best, i) => (better(i, best) ? i : best));
};

// The first point has the policy slm, also if the large model corrects it. Neither end has the router's cost.
const policyOf = ({ policy }, points, at) => (at === 0 ? 'slm' : at === points.length - 1 ? 'llm' : policy);

export const settingsText = ({ about }, points, at) => {
  const { acceptance, max_draft: draft } = about;
  const policy = policyOf(about, points, at), limit = draft === 'auto' ? '' : `/${draft}`;
  const dials = policy === 'llm' ? '' : `${policy === 'slm' ? '' : ` < ${points[at][THRESHOLD]}`} @ ${acceptance}${limit}`;
  return `CITER_SETTING="${policy}${dials}"\n`;
};

// The list "Prompt by prompt", at the picked point. A text is fetched when it is opened.
class PromptList {
  #prompts = [];

  // `textOf(number, at)` resolves to a prompt and its text at a point, or to null.
  constructor(list, textOf) { Object.assign(this, { list, textOf }); }

  add([number, where, prompt, expected, right, agreement]) {
    const item = Object.assign(make('li', 'tune-item'), { title: where, value: number }), head = make('div', 'tune-item-head');
    const mark = make('span', 'tune-mark'), answer = make('span', 'tune-item-expected', expected === null ? '' : `→ ${expected}`);
    const button = makeButton('small-button', 'text'), text = Object.assign(make('pre', 'tune-text'), { hidden: true, tabIndex: 0 });
    const entry = { number, mark, text, right, agreement, shown: null };   // `shown`: the point whose text is shown
    head.append(mark, make('span', 'tune-item-prompt', prompt), answer, button);
    item.append(head, text);
    button.setAttribute('aria-expanded', 'false');
    button.addEventListener('click', () => {
      text.hidden = !text.hidden;
      button.setAttribute('aria-expanded', String(!text.hidden));
      entry.shown = null;
      this.#drawText(entry);
    });
    this.#prompts.push(entry);
    this.list.insertBefore(item, [...this.list.children].find((other) => other.value > number) ?? null);
  }

  draw(kind, at) {
    this.at = at;
    for (const entry of this.#prompts) {
      const right = kind === 'right' ? entry.right?.[at] : undefined, same = `${wholePercent(entry.agreement[at])} like the large model`;
      entry.mark.textContent = right === undefined ? same : right ? '✓ right' : '✗ wrong';
      entry.mark.classList.toggle('wrong', right === false);
      this.#drawText(entry);
    }
  }

  clear() {
    this.#prompts = [];
    this.list.replaceChildren();
  }

  async #drawText(entry) {
    const { at } = this;
    if (entry.text.hidden || entry.shown === at) return;
    entry.shown = at;
    const answer = await this.textOf(entry.number, at);
    if (entry.shown !== at) return;
    entry.text.replaceChildren(...(answer ? [make('span', 'tune-text-prompt', `${answer.prompt}\n\n`), answer.text]
      : ['This text is not kept any more.']));
  }
}

export const start = (gradio) => {
  const { element, props, server } = gradio, find = finder(element), sayAt = (name, text) => say(find(`.tune-${name}`), text);
  const range = find('.tune-handle input');
  let latest = null, shown = null;   // the newest message, and the newest with a curve, which stays until another run has one
  let picked = null, view = null;    // the point that the visitor picked; the curve and the point on the page
  let announced = '';

  const prompts = new PromptList(find('.tune-list ol'), async (row, point) => (
    JSON.parse(await server.text_of({ run: shown.run, row, point }) || 'null')));

  const drawProgress = ({ state, note, total, done, n }) => {
    const text = state === 'waiting' ? note : `${state === 'running' ? 'measuring' : state} · ${note}`;
    find('.tune-state').dataset.state = state;
    sayAt('state', text);
    if (announced !== `${n} ${state}`) sayAt('live', text);   // read out once for each state
    announced = `${n} ${state}`;
    Object.assign(find('progress'), { hidden: state === 'failed', max: total, value: done });
    find('.tune-body').hidden = shown === null;
    find('.tune-empty').hidden = shown !== null;
    find('.tune-old').hidden = shown === null || shown.n === n;
  };

  const cost = (point) => point[BYTES] / (view.points.at(-1)[BYTES] || 1);
  const nameOf = (i) => (i === 0 ? (shown.about.acceptance ? 'the small model, corrected' : 'the small model alone') : i === view.points.length - 1 ? 'the large model alone' : `threshold ${thresholdWords(view.points[i][THRESHOLD])}${shown.about.acceptance ? `, acceptance ${shown.about.acceptance}` : ''}`);
  const labelOf = (i) => {
    const { points, kind } = view, point = points[i];
    return `${nameOf(i)}: ${wholePercent(point[QUALITY])} ${AXES[kind]}, ${wholePercent(cost(point))} of the bytes`;
  };

  // Why no setting can be recommended, or ''.
  const whyNone = () => {
    const { kind, points } = view, [cut, all] = shown.cut_off;
    if (kind !== 'right' || picked !== null) return '';
    if (cut > all / 2) return `${wholePercent(cut / all)} of the texts were cut off at ${counted(shown.about.max_new_tokens, 'token')}: raise New tokens.`;
    return points.every((point) => point[QUALITY] === 0) ? 'No setting gave one right answer.' : '';
  };

  const drawPick = () => {
    const { kind, points, questions, at } = view, point = points[at], why = whyNone(), { about, done, total } = shown;
    sayAt('said', why ? `Nothing can be recommended: ${why}` : `${picked === null ? 'Recommended: ' : ''}${labelOf(at)}, on ${counted(questions, 'prompt')}.`);
    sayAt('how', why ? '' : `95\u202f% interval ${wholePercent(point[LOW])} to ${wholePercent(point[HIGH])}; the large model alone ${wholePercent(points.at(-1)[QUALITY])}. `
      + `${wholePercent(point[SHARE])} of the tokens are the large model’s.`);
    Object.assign(range, { max: points.length - 1, value: at });
    range.setAttribute('aria-valuetext', labelOf(at));
    find('.tune-settings').value = why ? '' : settingsText(shown, points, at);
    for (const name of ['use', 'copy']) find(`.tune-${name}`).disabled = Boolean(why);
    const router = about.router ? ` ${about.router}` : '';
    sayAt('about', `${done} of ${counted(total, 'prompt')}, ${about.pair} on ${about.device}, scored by ${about.scored_by}${router}, acceptance ${about.acceptance}, greedy, `
      + `at most ${counted(about.max_new_tokens, 'token')}; bars are 95\u202f% intervals (Wilson’s) over prompts. ${kind === 'right' ? props.rule : AGREEMENT}`);
    sayAt('list-at', `At ${nameOf(at)}.`);
    if (find('.tune-list').open) prompts.draw(kind, at);
    const dots = points.map((each, i) => ({ cost: cost(each), quality: each[QUALITY], low: each[LOW], high: each[HIGH], label: labelOf(i) }));
    drawChart(dots, at, AXES[kind]);
  };

  const schedule = perFrame(() => {
    if (latest) drawProgress(latest);
    if (shown === null) return;
    const { kind, points, questions } = shown.curve;
    view = { kind, points, questions, at: Math.min(points.length - 1, picked ?? recommended(points)) };
    drawPick();
  });

  const drawChart = startPoints(find('.tune-plot'), props.plotly, (i) => { picked = i; schedule(); });

  openChannel(gradio, (message) => {
    if (message.curve) {
      if (shown !== null && shown.n !== message.n) picked = null;
      if (message.cut === 0) prompts.clear();
      shown = message;
    }
    message.prompts.forEach((prompt) => prompts.add(prompt));
    latest = message;
    schedule();
  }).receive();

  range.addEventListener('input', () => { picked = Number(range.value); schedule(); });
  find('.tune-list').addEventListener('toggle', schedule);
  find('.tune-copy').addEventListener('click', async () => {
    const field = find('.tune-settings'), copied = await copy(field.value);
    if (!copied) field.select();
    sayAt('done', copied ? 'Copied.' : 'Selected: copy it with the keyboard.');
  });
  find('.tune-use').addEventListener('click', () => {
    const { points, at } = view, { about } = shown, { acceptance, max_draft: draft, max_new_tokens } = about;
    gradio.trigger('use', { threshold: points[at][THRESHOLD], policy: about.policy, acceptance, max_new_tokens, max_draft: draft === 'auto' ? 0 : draft });
    openTab('Playground');
  });
};
