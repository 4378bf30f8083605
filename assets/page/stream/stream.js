// The generated text, token by token, and the line of its state. Model text is written with `textContent`.
import { isOver, openChannel } from '../lib/channel.js';
import { announce, dialAt, finder, listen, make, onSlider, perFrame, say } from '../lib/dom.js';
import { counted, seconds } from '../lib/format.js';
import { ACCEPTANCE, AUTHOR, llmShare, THRESHOLD } from '../lib/threshold.js';
import { startRendered } from '../rendered/rendered.js';
import { startCard } from './card.js';
import { startPointer } from './pointer.js';
import { changes, startPreview } from './preview.js';
import { startRecorded } from './recorded.js';
import { Text } from './text.js';
import { openRace } from '../lib/tabs.js';

const ENDS = { eos: '', stop: 'a stop string came up', length: 'the token limit is reached', cancelled: 'stopped' };
const STATES = { waiting: 'Reading the prompt …', running: 'Writing …', stopped: 'Stopped', failed: 'Failed' };
const AWAITED = 'Still the previous text';
const SHOWN = 60, ROOM = 0.45;   // letters of a prompt; of the window's height, which a text gives to the next

const isNarrow = window.matchMedia('(width <= 860px)'), isCalm = window.matchMedia('(prefers-reduced-motion: reduce)');

const shareOf = (tokens) => llmShare(tokens.map((token) => token[AUTHOR]));

const promptBox = () => document.querySelector('#prompt textarea');

export const prompts = new Map();   // of this window's texts: how many tokens the newest text of each has

export const start = (gradio) => {
  const { element } = gradio, find = finder(element), text = new Text(find('.stream-text'));
  const showCard = startCard(text, gradio), drawRendered = startRendered(text, gradio);
  startPreview(text, gradio);
  startPointer(text, gradio, showCard);

  // Looked up once: a search goes through all tokens, and `drawState` runs with each of them.
  const [textBox, stateLine, origin, more, follow, rendered, verdicts, race] = ['.stream-text', '.stream-state', '.stream-origin', '.stream-more',
    '.stream-follow', '.rendered-toggle', '.verdicts', '.race'].map(find);
  more.addEventListener('click', () => gradio.trigger('change_text', { kind: 'continue' }));
  race.addEventListener('click', () => openRace('play', Boolean(text.message?.recorded)));
  follow.addEventListener('click', () => {
    gradio.trigger('follow_up', { run: text.message.run });
    promptBox().focus();
  });
  listen(element, 'citer-followed', () => {   // another prompt in the box is the follow-up, already typed
    const prompt = promptBox();
    if (prompt.value !== text.message.asked?.[0]) return;
    prompt.value = '';
    prompt.dispatchEvent(new Event('input', { bubbles: true }));
  });

  let isSet = false;   // whether the visitor has changed what a recorded text does not follow
  // Says which prompt and setting the text belongs to, unless the fields say the same.
  const originOf = () => {
    if (text.awaited) return AWAITED;
    if (!text.tokens.length) return '';
    const [prompt = text.message.prompt] = text.message.asked ?? [], box = promptBox();
    if (prompt !== undefined && box && box.value !== prompt) return `Asked: ${prompt.length > SHOWN ? `${prompt.slice(0, SHOWN)}…` : prompt}`;
    if (text.message.recorded) return isSet ? 'Recorded texts have one acceptance and one policy: Generate writes at yours.' : '';
    if (text.foreign || !text.over || !text.message.fixed) return '';
    const { flipped, unread } = changes(text, dialAt('threshold'), dialAt('acceptance'));
    return flipped + unread ? 'This text is fixed: Generate writes it at the slider’s setting.' : '';
  };
  // After Follow up the text stands in the conversation as the last answer, and is hidden here.
  const drawOrigin = perFrame(() => {
    const above = [...document.querySelectorAll('#conversation .turn-text')], [, turns = 0] = text.message?.asked ?? [];
    element.classList.toggle('answered', above.length === turns + 2 && above.at(-1).textContent === text.words);
    say(origin, originOf());
  });
  for (const dial of ['threshold', 'acceptance']) onSlider(element, drawOrigin, dial);
  listen(element, 'input', ({ target }) => { if (target.closest?.('#more') && !target.closest('#threshold')) { isSet = true; drawOrigin(); } });
  for (const type of ['citer-dials', 'citer-fields', 'citer-conversation']) listen(element, type, drawOrigin);

  const tellOutcome = () => {
    const { tokens, message, over, visibleTokens: texts } = text;
    if (!message || text.awaited) return;
    announce('citer-outcome', { share: message.share ?? shareOf(texts), cost: message.cost, tokens: tokens.length, over: over && tokens.length > 0, recorded: message.recorded, texts });
  };

  const wordsOf = ({ state, note, finish } = {}) => {
    if (note || STATES[state]) return note || STATES[state];
    return state ? [counted(text.visibleTokens.length, 'token'), ENDS[finish] ?? ''].filter(Boolean).join(' · ') : '';
  };
  const speedOf = ({ took, recorded, fixed } = {}) => took && !recorded && !fixed && !text.foreign
    ? `It took ${seconds(took)}, ${Number((text.tokens.length / took).toPrecision(3))} tokens/s.` : '';

  const drawState = (message = text.message) => {
    const state = message?.state ?? 'idle', own = text.over && !text.foreign, there = text.tokens.length > 0;
    Object.assign(stateLine.dataset, { state, run: message?.n ?? '' });
    say(stateLine, wordsOf(message ?? undefined));
    more.hidden = !(own && text.message.more);
    follow.hidden = !(own && text.message.chat && there);
    rendered.hidden = !there || !(text.hasMarkup || rendered.getAttribute('aria-pressed') === 'true');
    race.hidden = text.awaited || !(text.over && there && (own || text.message.recorded));
    const { run = null, row = null, recorded = false, about = '', verdicts: marks = [] } = text.message ?? {};
    stateLine.title = [about, speedOf(text.message ?? undefined)].filter(Boolean).join('\n');
    verdicts.hidden = text.awaited || marks.length === 0;
    verdicts.replaceChildren(...marks.map(([who, right]) => make('span', right ? 'right' : 'wrong', `${who} ${right ? '✓' : '✗'}`)));
    textBox.classList.toggle('awaits', text.awaited);
    announce('citer-shown', { run, row, recorded, state, tokens: text.tokens.length });
  };

  // While a text is written, its last line stays above the slider, unless the reader has scrolled away from it.
  const below = () => stateLine.getBoundingClientRect().bottom - (document.querySelector('#slider')?.getBoundingClientRect().top ?? innerHeight);

  const draw = () => {
    const inSight = text.message?.state === 'running' && below() <= 0;
    text.draw();
    drawState();
    if (inSight && below() > 0) scrollBy({ top: below() + 8 });
    drawOrigin();
    drawRendered();
    showCard();
    tellOutcome();
  };
  const schedule = perFrame(draw);

  let items = [];   // tokens of the newest job on the server
  const channel = openChannel(gradio, (message, fresh) => {
    const { cut, threshold, acceptance } = message;
    if (fresh && message.count + cut === 0) {   // the last text stays until the new one has a token
      text.awaited = !isOver(message.state) && text.tokens.length > 0;
      drawState(message);
      return drawOrigin();
    }
    items = items.slice(0, cut);
    if (fresh) {
      announce('citer-run');
      // A text that is written again keeps its box's height, so that neither page nor slider moves; another text keeps it within reason.
      const isAgain = message.asked?.[0] === (text.message?.asked?.[0] ?? text.message?.prompt);
      textBox.style.setProperty('--room', `${Math.min(textBox.offsetHeight, isAgain ? Infinity : ROOM * innerHeight)}px`);
      text.unmark();
      text.foreign = text.awaited = false;
      items = items.map((token) => Object.assign([...token], { [THRESHOLD]: threshold, [ACCEPTANCE]: acceptance }));
    }
    items.push(...message.tokens);
    text.tokens = items;
    const { asked: prompt, cost, took, share } = text.message ?? {};   // only the first message of a job has its prompt
    text.message = { asked: prompt, ...(fresh ? {} : { cost, took, share }), ...message };
    if (message.cost) text.message.share = shareOf(text.visibleTokens);   // share and cost are those of one moment
    if (text.message.asked) prompts.set(text.message.asked[0], items.length);
    schedule();
  });

  startRecorded(gradio, (tokens, message) => {
    text.foreign = true;
    text.unmark();
    text.tokens = tokens;
    text.message = { n: '', state: 'done', finish: 'eos', fixed: true, policy: '', ...message };
    schedule();
  });

  // On a telephone the text stands below the prompt, so Generate scrolls to it.
  listen(element, 'click', ({ target }) => {
    if (!target.closest?.('#generate') || !isNarrow.matches || !promptBox()?.value.trim()) return;
    element.scrollIntoView({ block: 'start', behavior: isCalm.matches ? 'auto' : 'smooth' });
  });

  draw();
  channel.receive();
};
