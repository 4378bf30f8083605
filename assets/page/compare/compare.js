// Draws three texts side by side, in their time. Every text that came from a model is written with textContent.
import { openChannel } from '../lib/channel.js';
import { finder, listen, perFrame, say } from '../lib/dom.js';
import { wish } from '../lib/tabs.js';
import { Column, KEY } from './column.js';
import { startTime } from './time.js';

const TITLES = { slm: 'Small model alone', middle: 'Together', llm: 'Large model alone' };
const STATES = { idle: 'Nothing compared yet', waiting: 'Reading the prompt …', running: 'Writing the texts …', done: 'Done',
  stopped: 'Stopped', failed: 'Failed' };
const EMPTY = { idle: 'The text appears here.', stopped: 'Stopped before its first token.', failed: 'Nothing was written.' };

export const start = (gradio) => {
  const { element, props } = gradio, find = finder(element), stateLine = find('.compare-state');
  const columns = Object.entries(TITLES).map(([key, title]) => new Column(key, title, find(`[data-column="${key}"]`)));
  const time = startTime(gradio, columns);
  let latest = { state: 'idle', finish: {} };   // newest message about the comparison on the page
  let wanted = '';   // what is to begin once there is a whole race: "play" or "film"

  const drawState = ({ state, note, n }) => {
    stateLine.dataset.state = state;
    stateLine.dataset.run = n ?? '';
    say(stateLine, note || STATES[state]);
    find('.compare-old').hidden = n === latest.n || !columns.some(({ tokens }) => tokens.length);
  };

  const draw = () => {
    const { state, finish, costs, verdicts } = latest, over = ['done', 'stopped', 'failed'].includes(state);
    drawState(latest);
    for (const column of columns) {
      column.draw(EMPTY[state] ?? '', finish[column.key] === 'eos', over);
      column.conclude(costs?.[column.key], verdicts?.[column.key]);
    }
    time.draw(over);
    if (!wanted || !over || !columns.some(({ tokens }) => tokens.length)) return;
    const action = wanted;
    wanted = '';
    time[action]();
  };
  const schedule = perFrame(draw);
  listen(element, 'citer-cost', schedule);

  const take = (message, fresh) => {
    if (fresh && message.count === 0) return drawState(message);   // keep the last texts until there are new ones
    if (message.cut === 0) {
      time.reset();
      for (const column of columns) column.clear();
    }
    latest = message;
    for (const token of message.tokens) columns.find(({ key }) => key === token[KEY]).tokens.push(token);
    schedule();
  };

  // What was asked for from the Playground: the recorded race, or that of its prompt, which is written first.
  const race = (action, recorded) => {
    wanted = action;
    if (recorded && props.recorded) return take(JSON.parse(props.recorded), true);
    if (action === 'film' && columns.some(({ tokens }) => tokens.length)) return schedule();
    setTimeout(() => document.querySelector('#compare-start').click(), 300);   // once the prompt is carried over
  };
  const begin = () => {   // also where this tab was drawn for it
    if (!wish.race) return;
    const asked = wish.race;
    wish.race = null;
    race(...asked);
  };
  listen(element, 'citer-race', begin);

  openChannel(gradio, take).receive();
  schedule();
  begin();
};
