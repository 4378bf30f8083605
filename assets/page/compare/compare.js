// Compare draws three texts side by side, in the time of their writing. Model text is written with `textContent`.
import { isOver, openChannel } from '../lib/channel.js';
import { finder, listen, perFrame, say } from '../lib/dom.js';
import { takeRace } from '../lib/tabs.js';
import { Column, KEY } from './column.js';
import { startTime } from './time.js';

const STATES = { idle: 'Nothing compared yet', waiting: 'Reading the prompt …', running: 'Writing the texts …', done: 'Done',
  stopped: 'Stopped', failed: 'Failed' };
const EMPTY = { idle: 'The text appears here.', stopped: 'Stopped before its first token.', failed: 'Nothing was written.' };

export const start = (gradio) => {
  const { element, props } = gradio, find = finder(element), stateLine = find('.compare-state');
  const columns = [...element.querySelectorAll('[data-column]')].map((place) => new Column(place));
  const time = startTime(gradio, columns);
  const hasTexts = () => columns.some(({ tokens }) => tokens.length);
  let latest = { state: 'idle', finish: {} };   // newest message about the texts on the page
  let pending = '';   // what begins once the texts are complete: "play" or "film"

  const drawState = ({ state, note, n }) => {
    stateLine.dataset.state = state;
    stateLine.dataset.run = n ?? '';
    say(stateLine, note || STATES[state]);
    find('.compare-old').hidden = n === latest.n || !hasTexts();
  };

  const draw = () => {
    const { state, finish, costs, verdicts } = latest, over = isOver(state);
    drawState(latest);
    for (const column of columns) {
      column.draw(EMPTY[state] ?? '', finish[column.key] === 'eos', over);
      column.conclude(costs?.[column.key], verdicts?.[column.key]);
    }
    time.draw(over);
    if (!pending || !over || !hasTexts()) return;
    const action = pending;
    pending = '';
    time[action]();
  };
  const schedule = perFrame(draw);
  listen(element, 'citer-cost', schedule);

  const take = (message, fresh) => {
    if (fresh && message.count === 0) return drawState(message);   // the last texts stay until there are new ones
    if (message.cut === 0) {
      time.reset();
      for (const column of columns) column.clear();
    }
    latest = message;
    for (const token of message.tokens) columns.find(({ key }) => key === token[KEY]).tokens.push(token);
    schedule();
  };

  const begin = () => {
    const [action, recorded] = takeRace() ?? [];
    if (!action) return;
    pending = action;
    if (recorded && props.recorded) return take(JSON.parse(props.recorded), true);
    if (action === 'film' && hasTexts()) return schedule();
    setTimeout(() => document.querySelector('#compare-start').click(), 300);   // lib/tabs.js copies the prompt first
  };
  listen(element, 'citer-race', begin);

  openChannel(gradio, take).receive();
  schedule();
  begin();
};
