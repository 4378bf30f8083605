// Draws three texts side by side, the time axis that they share, and what they cost. Every text that came from a model is
// written with textContent.
import { openChannel } from '../lib/channel.js';
import { finder, make, perFrame, say, showAcceptance } from '../lib/dom.js';
import { Column, KEY } from './column.js';
import { startTime } from './time.js';

const COLUMNS = ['slm', 'middle', 'router', 'llm'];   // of the table; the router's only where chance takes its share
const TITLES = { slm: 'SLM-only', middle: 'in the middle', llm: 'LLM-only' };
const STATES = { idle: 'Nothing compared yet', waiting: 'Reading the prompt …', running: 'Writing the texts …', done: 'Done',
  stopped: 'Stopped', failed: 'Failed' };
const EMPTY = { idle: 'The text appears here, every token coloured by the model that wrote it.', stopped: 'Stopped before its first token.',
  failed: 'Nothing was written.' };
const AFTER_ROUTER = 'Chance is written after the router’s text, with the LLM share that it has.';

export const start = (gradio) => {
  const { element } = gradio, find = finder(element), stateLine = find('.compare-state'), sentences = find('.compare-sentences');
  const columns = Object.keys(TITLES).map((key) => new Column(key, find(`[data-column="${key}"]`)));
  const time = startTime(gradio, columns), rows = element.querySelectorAll('[data-row]');
  let latest = { state: 'idle', texts: {} };   // newest message about the comparison on the page

  for (const row of rows) {
    for (const key of COLUMNS) {
      const cell = Object.assign(row.insertCell(), { textContent: '–', hidden: key === 'router' });
      cell.dataset.of = key;
      cell.setAttribute('role', 'cell');
    }
  }

  const drawTable = (figures) => {
    for (const key of COLUMNS) {
      const figure = figures.find((each) => each.key === key), [head, ...cells] = element.querySelectorAll(`[data-of="${key}"]`);
      for (const cell of [head, ...cells]) cell.hidden = !figure;
      if (!figure) continue;
      say(head, figure.title);
      cells.forEach((cell, i) => {
        const value = figure[rows[i].dataset.row];
        if (!Array.isArray(value)) say(cell, value);
        else cell.replaceChildren(make('b', '', value[0]), ' ', make('span', '', value[1]));
      });
    }
  };

  const drawState = ({ state, note, n }) => {
    stateLine.dataset.state = state;
    stateLine.dataset.run = n ?? '';
    say(stateLine, note || STATES[state]);
    find('.compare-old').hidden = n === latest.n || !columns.some(({ tokens }) => tokens.length);
  };

  const draw = () => {
    const { state, texts, differs } = latest, over = ['done', 'stopped', 'failed'].includes(state);
    drawState(latest);
    for (const column of columns) {
      const { key } = column, { title = TITLES[key], finish } = texts[key] ?? {};
      const awaited = key === 'middle' && texts.router && state === 'running';
      for (const name of element.querySelectorAll(`[data-title="${key}"]`)) say(name, title);
      column.draw(title, awaited ? AFTER_ROUTER : EMPTY[state] ?? '', finish === 'eos', over);
      if (differs) column.markOnly(new Set(differs[key]));
    }
    if (differs && sentences.childElementCount === 0) sentences.append(...latest.sentences.map((text) => make('p', '', text)));
    time.draw(over);
  };
  const schedule = perFrame(draw);
  showAcceptance(element, '.compare-acceptance');

  openChannel(gradio, (message, skip, fresh) => {
    if (fresh && message.count === 0) return drawState(message);   // keep the last texts until there are new ones
    if (fresh) {
      time.reset();
      sentences.replaceChildren();
      for (const column of columns) column.clear();
    }
    latest = message;
    for (const token of message.tokens.slice(skip)) columns.find(({ key }) => key === token[KEY]).tokens.push(token);
    if (message.figures) drawTable(message.figures);
    schedule();
  }).receive();
  schedule();
};
