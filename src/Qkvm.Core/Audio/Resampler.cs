namespace Qkvm.Core.Audio;

/// <summary>Stereo frames at one rate from those at another, by linear interpolation. Frames are numbered since the
/// machine's time 0, at either rate, so that nothing drifts: only the last frames are remembered.</summary>
/// <remarks>The output is <see cref="Delay"/> input frames late, by which both neighbours of a moment are always
/// there. At equal rates the frames pass unchanged.</remarks>
sealed class Resampler
{
    const int History = 64, Delay = 2;

    readonly float[] _frames = new float[2 * (History + AudioHost.MostSliceFrames)];
    int _count;                                                    // of the newest input

    /// <summary>Room for the next input.</summary>
    /// <param name="frames">As many as <see cref="AudioHost.MostSliceFrames"/> at most.</param>
    public Span<float> Input(int frames)
    {
        _frames.AsSpan(2 * _count, 2 * History).CopyTo(_frames);
        _count = frames;
        return _frames.AsSpan(2 * History, 2 * frames);
    }

    public void Clear()
    {
        Array.Clear(_frames);
        _count = 0;
    }

    /// <summary>Adds to the output what the input is at its rate.</summary>
    /// <param name="firstIn">The number of the newest input's first frame.</param>
    /// <param name="firstOut">The number of the output's first frame.</param>
    /// <param name="left">What the samples are multiplied by.</param>
    public void AddTo(Span<float> output, long firstIn, int rateIn, long firstOut, int rateOut, float left = 1,
        float right = 1)
    {
        ReadOnlySpan<float> frames = _frames;
        for (int k = 0; k < output.Length / 2; k++)
        {
            long scaled = (firstOut + k) * rateIn;
            long at = scaled / rateOut - Delay - firstIn + History;
            int i = 2 * (int)Math.Clamp(at, 0, History + Math.Max(0, _count - 2));
            float part = (float)(scaled % rateOut) / rateOut;
            output[2 * k] += left * (frames[i] + (frames[i + 2] - frames[i]) * part);
            output[2 * k + 1] += right * (frames[i + 1] + (frames[i + 3] - frames[i + 1]) * part);
        }
    }
}
