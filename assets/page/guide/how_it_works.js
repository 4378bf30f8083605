// Draws one step of a text: what the SLM read, what the score was, who wrote. The sentences come from the server as words
// with a kind; tokens are a model's, so everything is written with textContent.
import { follow } from '../lib/channel.js';
import { finder, make } from '../lib/dom.js';
import { counted } from '../lib/format.js';

const [TEXT, AUTHOR, SLM_READS, LLM_READS] = Array(4).keys();   // of a token

const chip = (kind, text, read = false) => make('code', `token ${kind}${read ? ' read' : ''}`, text);

const write = (place, words) => {
  place.replaceChildren(...words.map((word) => (typeof word === 'string' ? word : word[0] === 'b' ? make('b', '', word[1]) : chip(...word))));
  return place;
};

// The tokens before the explained one; those that the model reads in this step have a frame, `all` shows the others too.
const context = ({ prompt: [count, ...readers], hidden, context: tokens }, reads, all) => {
  const prompt = readers[reads - SLM_READS], shown = tokens.filter((token) => all || token[reads]);
  return [
    all || prompt ? chip('prompt', `prompt: ${counted(count, 'token')}`, prompt) : '',
    hidden && (all || prompt) ? make('span', 'more', `+ ${hidden}`) : '',
    ...shown.map((token) => chip(token[AUTHOR], token[TEXT], token[reads])),
  ];
};

export const start = ({ element, props, watch }) => {
  const find = finder(element), [reads, picture, writes] = element.querySelectorAll('.picture');

  const drawPlane = (threshold, acceptance) => {
    const point = find('.plane-point'), here = `threshold ${Number(threshold.toFixed(7))}, acceptance ${Number(acceptance.toFixed(2))}`;
    point.style.setProperty('--threshold', Math.min(1, threshold));
    point.style.setProperty('--acceptance', acceptance);
    find('.plane-here').textContent = `● ${here}`;
    find('.plane').setAttribute('aria-label', `The plane of threshold and acceptance; this text is at ${here}`);
  };

  follow({ props, watch }, (message) => {
    if (!message) return;
    const { title, hint, intro, outro, token: [text, author], gauge } = message;
    find('#lesson-title').textContent = title;
    find('.lesson-hint').textContent = hint;
    find('.lesson-hint').hidden = !hint;
    write(find('.lesson-intro'), intro);
    write(find('.lesson-outro'), outro);
    find('.lesson-judged').replaceChildren(...message.judged.map((words) => write(make('p'), words)));
    drawPlane(...message.dials);
    element.querySelectorAll('.lesson-steps li').forEach((item, i) => {
      item.querySelector('h3').textContent = message.steps[i].title;
      write(item.querySelector('p'), message.steps[i].text);
    });
    reads.replaceChildren(...context(message, SLM_READS, true));
    writes.replaceChildren(...(author === 'llm' ? [...context(message, LLM_READS, false), make('span', 'more', '→')] : []), chip(author, text));
    picture.hidden = gauge === null;
    if (gauge === null) return;
    const [score, threshold, scoreText, thresholdText] = gauge;
    picture.style.setProperty('--score', Math.min(1, score));
    picture.style.setProperty('--threshold', Math.min(1, threshold));
    find('.score-value').textContent = scoreText;
    find('.threshold-value').textContent = thresholdText;
  });
};
