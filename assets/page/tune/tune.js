// Tune on my prompts: progress, the curve, the picker and what is taken away. Every text is written with textContent.
import { openChannel } from '../lib/channel.js';
import { HIGH, LOW, measuredIn, QUALITY, relative, SHARE, shortThreshold, THRESHOLD, UNITS, valuesAt } from '../lib/curve.js';
import { finder, perFrame, say, showAcceptance } from '../lib/dom.js';
import { counted, wholePercent } from '../lib/format.js';
import { inSight, loadPlotly, onTheme, themeOf } from '../lib/plot.js';
import { copy, save } from '../lib/take.js';
import { chart, clicked } from './chart.js';
import { csvText, jsonText, linkText, policyOf, settingsText } from './export.js';
import { Picker } from './picker.js';
import { PromptList } from './prompt_list.js';
import { fillRows, QUALITY_AXES, QUALITY_NAMES, UNIT_SHORT } from './words.js';

const AGREEMENT = 'Agreement is 1 − edit distance to the LLM-only text, in tokens of the longer text: 100\u202f% is the same text.';
const FEW = 20;   // prompts

// What the picked point gives, in a sentence.
const sentence = ({ kind, unit, points, questions, values, threshold }, { acceptance }) => {
  const quality = kind === 'right' ? `${wholePercent(values[QUALITY])} right (LLM alone ${wholePercent(points.at(-1)[QUALITY])})`
    : `${wholePercent(values[QUALITY])} agreement with the LLM-only text`;
  return `Threshold ${threshold}${acceptance ? `, acceptance ${acceptance}` : ''}: ${quality}, ${wholePercent(values[SHARE])} LLM tokens, `
    + `${wholePercent(relative(points, values, unit))} of its ${UNIT_SHORT[unit]}, on ${counted(questions, 'prompt')}.`;
};

// How sure that is, and what a hand asked for that the curve does not have.
const footnote = ({ unit, points, questions, values, measured, policy }, about, hand) => {
  const over = hand?.name === 'budget' ? 100 * relative(points, values, unit) - hand.value : 0;
  return [
    `95\u202f% interval ${wholePercent(values[LOW])} to ${wholePercent(values[HIGH])}.`,
    !measured && 'Between two measured thresholds: read off the straight line.',
    policy !== about.policy && (policy === 'slm' && about.acceptance > 0 ? 'An end of the dial: no router, the LLM reads what the SLM drafts.'
      : `An end of the dial: the ${policy.toUpperCase()} alone.`),
    over < -0.5 && 'More cost buys no more on this curve.',
    over > 0.5 && 'Nothing on this curve is so cheap.',
  ].filter(Boolean).join(' ');
};

// Whether no point can be recommended: none gave a right answer, or most answers were cut off before they could be right.
const isVain = ({ kind, points }, { cut: [cut, all] }) => kind === 'right' && (cut > all / 2 || points.every((point) => point[QUALITY] === 0));

// What stands in the way of relying on it.
const advice = ({ kind, points, questions }, { cut: [cut, all], about }) => [
  kind === 'right' && points.every((point) => point[QUALITY] === 0) && 'No setting gave one right answer.',
  cut > all / 2 && `${wholePercent(cut / all)} of the texts were cut off at ${counted(about.max_new_tokens, 'token')}: give New tokens per text more room and run again.`,
  questions < FEW && `${counted(questions, 'prompt')} ${questions === 1 ? 'is' : 'are'} few: an interval on so few says little. Give ${FEW} or more.`,
].filter(Boolean).join(' ');

// What was measured, with what.
const measuredOn = ({ about, done, total }, { kind, questions }) => {
  const of = kind === 'right' && questions < done ? ` (${questions} with an answer)` : '', router = about.router ? ` ${about.router}` : '';
  return `Your prompts: ${done} of ${total}${of}, ${about.pair} on ${about.device}, scored by ${about.scored_by}${router}, acceptance ${about.acceptance}, `
    + `greedy, at most ${counted(about.max_new_tokens, 'token')}; bars are 95\u202f% bootstrap intervals over prompts.`;
};

const OF = { right: 'questions', same: 'prompts' };
const shippedOn = ({ questions, task, pair, acceptance, quality }, kind) => `Dashed: the router as it was shipped, at acceptance ${acceptance}, `
  + `${QUALITY_AXES[quality]} on ${questions} ${OF[quality]} (${task}) with ${pair}${kind === quality ? '' : `; not ${QUALITY_AXES[kind]}, so compare the shapes`}.`;

// The router's shipped curve, where it was measured in the unit.
const shippedIn = ({ shipped }, unit) => (shipped && measuredIn(shipped.points, unit) ? shipped : null);

const cellsOf = (points, point) => [shortThreshold(point[THRESHOLD]), wholePercent(point[QUALITY]),
  `${wholePercent(point[LOW])} to ${wholePercent(point[HIGH])}`, wholePercent(point[SHARE]),
  ...Object.keys(UNITS).map((unit) => wholePercent(relative(points, point, unit)))];

// Without a secure address a browser gives no clipboard; then the field is selected, for a hand to copy.
const copyField = async (field) => {
  if (await copy(field.value)) return true;
  field.select();
  return document.execCommand('copy');
};

export const start = (gradio) => {
  const { element, props, server } = gradio, find = finder(element), sayAt = (name, text) => say(find(`.tune-${name}`), text);
  const plot = find('.tune-plot');
  let latest = null, shown = null;   // the newest message, and the newest with a curve: while another run has none yet, the one before stays
  let now = null;     // the curve that is looked at and the picked point on it
  let wanted = 'right', announced = '', drawing = Promise.resolve();

  const prompts = new PromptList(find('.tune-list ol'), async (row, point) => (
    JSON.parse(await server.text_of({ run: shown.run, row, point }) || 'null')));

  const drawProgress = ({ state, note, total, done, n }) => {
    const text = state === 'waiting' ? note : `${state === 'running' ? 'measuring' : state} · ${note}`;
    find('.tune-state').dataset.state = state;
    sayAt('state', text);
    if (announced !== `${n} ${state}`) sayAt('live', text);   // not every step of it
    announced = `${n} ${state}`;
    Object.assign(find('progress'), { hidden: state === 'failed', max: total, value: done });
    find('.tune-body').hidden = shown === null;
    find('.tune-empty').hidden = shown !== null;
    find('.tune-old').hidden = shown === null || shown.n === n;
  };

  const look = () => {
    const kind = shown.curves[wanted] === null ? 'same' : wanted, unit = find('[name="tune-unit"]:checked').value;
    const { points, questions } = shown.curves[kind], place = picker.place(points, unit), values = valuesAt(points, place), { hand } = picker;
    // A number that was typed is the threshold itself; one beyond the curve's end is LLM-only.
    const threshold = hand?.name === 'threshold' && hand.value <= 1 ? hand.value : shortThreshold(values[THRESHOLD]);
    const policy = policyOf(shown.about, points, place), measured = Number.isInteger(place), first = shown.about.acceptance ? 'no router' : 'SLM only';
    return { kind, first, unit, points, questions, place, values, threshold, policy, measured };
  };

  const drawAbout = () => {
    const { kind, unit } = now, shipped = shippedIn(shown, unit), legend = find('.tune-shipped');
    sayAt('about', measuredOn(shown, now));
    sayAt('rule', kind === 'right' ? props.rule : AGREEMENT);
    sayAt('beside', shipped ? shippedOn(shipped, kind) : '');
    say(find('.tune-slm'), now.first);
    legend.hidden = !shipped;
    say(legend, shipped ? `router as shipped (${shipped.task})` : '');
    for (const radio of element.querySelectorAll('[name="tune-kind"]')) {
      Object.assign(radio, { checked: radio.value === kind, disabled: shown.curves[radio.value] === null });
    }
  };

  const drawPick = () => {
    const { kind, points, place } = now, nearest = Math.round(place), name = shortThreshold(points[nearest][THRESHOLD]);
    const words = advice(now, shown), vain = picker.hand === null && isVain(now, shown);   // until a hand picks one all the same
    picker.draw(now);
    sayAt('advice', words);
    find('.tune-advice').hidden = !words;
    sayAt('said', vain ? 'Nothing can be recommended from this run.' : sentence(now, shown.about));
    sayAt('how', vain ? 'A handle picks a point all the same.' : footnote(now, shown.about, picker.hand));
    find('[data-take="settings"]').value = vain ? '' : settingsText(shown, now);
    find('[data-take="link"]').value = vain ? '' : linkText(shown, now);
    for (const button of element.querySelectorAll('.tune-use, [data-copy], [data-save="json"]')) button.disabled = vain;
    sayAt('list-at', `At threshold ${name}, the measured threshold nearest to the picked one.`);
    if (find('.tune-list').open) prompts.draw(kind, nearest);
    sayAt('quality', QUALITY_NAMES[kind]);
    fillRows(find('.tune-table tbody'), points.map((point) => cellsOf(points, point)));
  };

  const drawChart = async () => {
    const Plotly = await loadPlotly(props.plotly), first = !plot.data;
    await Plotly.react(plot, ...chart(now, shippedIn(shown, now.unit)?.points ?? [], themeOf(element)));
    if (!first) return;
    plot.on('plotly_click', (event) => {
      const point = now.points[clicked(event, now.points)];
      if (!point) return;
      picker.hand = { name: 'threshold', value: point[THRESHOLD] };
      schedule();
    });
  };

  const drawSeen = inSight(plot, () => {
    drawing = drawing.then(drawChart).catch((error) => console.error(error));
  });

  const schedule = perFrame(() => {
    if (latest) drawProgress(latest);   // with what it is about: "done" must not stand above less
    if (shown === null) return;
    now = look();
    drawAbout();
    drawPick();
    drawSeen();
  });
  const picker = new Picker(element, () => now, schedule);

  openChannel(gradio, (message, skip) => {
    if (message.curves.same !== null) {
      if (shown !== null && shown.n !== message.n) {
        prompts.clear();
        picker.hand = null;
      }
      shown = message;
    }
    message.prompts.slice(skip).forEach((prompt) => prompts.add(prompt));
    latest = message;
    schedule();
  }).receive();

  find('.tune-views').addEventListener('change', ({ target }) => {
    if (target.name === 'tune-kind') wanted = target.value;
    schedule();
  });
  find('.tune-list').addEventListener('toggle', schedule);
  for (const button of element.querySelectorAll('[data-copy]')) button.addEventListener('click', async () => {
    const copied = await copyField(find(`[data-take="${button.dataset.copy}"]`));
    sayAt('done', copied ? 'Copied.' : 'Selected: copy it with the keyboard.');
  });
  find('.tune-use').addEventListener('click', () => {
    const { about: { acceptance, max_draft, max_new_tokens } } = shown, { threshold, policy } = now;
    gradio.trigger('use', { threshold, policy, acceptance, max_new_tokens, max_draft: max_draft === 'auto' ? 0 : max_draft });
  });
  find('[data-save="json"]').addEventListener('click', () => save('citer-operating-point.json', 'application/json', jsonText(shown, now)));
  find('[data-save="csv"]').addEventListener('click', () => save('citer-curve.csv', 'text/csv;charset=utf-8', csvText(shown, now)));

  showAcceptance(element, '.tune-acceptance');
  onTheme(schedule);
  // A tab that is not shown has no width to draw in.
  new ResizeObserver(() => { if (plot.data && plot.offsetWidth) window.Plotly.Plots.resize(plot); }).observe(element);
};
