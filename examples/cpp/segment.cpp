// Segments an image with an OpenVINO export of paddlefcn, and equals `paddlefcn infer` pixel for pixel.
//
//   segment EXPORT_FOLDER image.bmp labels.pgm
//
// The folder is one of `export --format openvino` (fp32, bf16 or int8; logits or labels); what the image
// goes through stands in its deploy.yaml. Images are BMP files of 24 bits, so that no library for images is
// needed; labels.pgm holds a byte a pixel, the class.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

namespace {

struct Image {
    std::size_t height = 0, width = 0;
    std::vector<std::uint8_t> rgb;  // [height, width, 3]
};

std::vector<std::uint8_t> read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

std::uint32_t little_endian(const std::vector<std::uint8_t>& bytes, std::size_t place, int count) {
    std::uint32_t value = 0;
    for (int i = count - 1; i >= 0; --i) value = value << 8 | bytes.at(place + i);
    return value;
}

// A BMP of 24 bits without compression; its rows are padded to four bytes and run upwards.
Image read_bmp(const std::string& path) {
    const auto bytes = read_bytes(path);
    if (bytes.size() < 54 || bytes[0] != 'B' || bytes[1] != 'M') throw std::runtime_error(path + ": is no BMP");
    const auto start = little_endian(bytes, 10, 4);
    const auto width = static_cast<std::int32_t>(little_endian(bytes, 18, 4));
    const auto height = static_cast<std::int32_t>(little_endian(bytes, 22, 4));
    if (little_endian(bytes, 28, 2) != 24 || little_endian(bytes, 30, 4) != 0 || width <= 0 || height == 0)
        throw std::runtime_error(path + ": expected a BMP of 24 bits a pixel without compression");
    Image image;
    image.width = static_cast<std::size_t>(width);
    image.height = static_cast<std::size_t>(std::abs(static_cast<std::int64_t>(height)));
    const std::size_t stride = (image.width * 3 + 3) / 4 * 4;
    if (bytes.size() < start || (bytes.size() - start) / stride < image.height)
        throw std::runtime_error(path + ": is truncated");
    image.rgb.resize(image.height * image.width * 3);
    for (std::size_t y = 0; y < image.height; ++y) {
        const auto* row = &bytes[start + (height > 0 ? image.height - 1 - y : y) * stride];
        for (std::size_t x = 0; x < image.width; ++x)
            for (std::size_t c = 0; c < 3; ++c) image.rgb[(y * image.width + x) * 3 + c] = row[x * 3 + 2 - c];
    }
    return image;
}

// deploy.yaml's lines `key: value`, by key: those of the top level, and those of preprocess and normalize.
std::map<std::string, std::string> read_settings(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": cannot be read; give a folder that `export` wrote");
    std::map<std::string, std::string> settings;
    std::string section;
    for (std::string line; std::getline(file, line);) {
        const auto begin = line.find_first_not_of(' ');
        const auto colon = line.find(':');
        if (begin == std::string::npos || colon == std::string::npos) continue;
        const auto key = line.substr(begin, colon - begin);
        if (begin == 0) section = key;
        if (begin != 0 && section != "preprocess") continue;
        const auto place = line.find_first_not_of(' ', colon + 1);
        auto& value = settings[key] = place == std::string::npos ? "" : line.substr(place);
        while (!value.empty() && value[0] == '[' && value.back() != ']' && std::getline(file, line)) value += line;
    }
    return settings;
}

std::vector<double> numbers(std::string text) {
    for (char& letter : text)
        if (letter == '[' || letter == ']' || letter == ',') letter = ' ';
    std::istringstream stream(text);
    return {std::istream_iterator<double>(stream), {}};
}

// (x / scale - mean) / std as paddlefcn computes it, in float32: [1, 3, height, width].
ov::Tensor prepare(const Image& image, const std::map<std::string, std::string>& settings) {
    const auto scale = numbers(settings.at("scale")).at(0);
    const auto mean = numbers(settings.at("mean")), std = numbers(settings.at("std"));
    if (settings.at("resize") != "[]") throw std::runtime_error("this example takes no export with a Resize");
    if (mean.size() != 3 || std.size() != 3) throw std::runtime_error("this example takes images of 3 channels");
    const bool bgr = settings.at("order") == "BGR";
    ov::Tensor tensor(ov::element::f32, {1, 3, image.height, image.width});
    auto* out = tensor.data<float>();
    const auto pixels = image.height * image.width;
    for (std::size_t c = 0; c < 3; ++c) {
        const auto factor = static_cast<float>(1.0 / (scale * std[c]));
        const auto shift = static_cast<float>(mean[c] / std[c]);
        const auto plane = bgr ? 2 - c : c;
        for (std::size_t i = 0; i < pixels; ++i) out[c * pixels + i] = image.rgb[i * 3 + plane] * factor - shift;
    }
    return tensor;
}

// The class of the highest logit of each pixel, the lowest among equals; class ids go through as they are.
std::vector<std::uint8_t> decide(const ov::Tensor& output, std::size_t pixels) {
    std::vector<std::uint8_t> labels(pixels, 0);
    if (output.get_shape().size() == 3) {
        const auto* ids = output.data<std::int32_t>();
        for (std::size_t i = 0; i < pixels; ++i) labels[i] = static_cast<std::uint8_t>(ids[i]);
        return labels;
    }
    const auto* logits = output.data<float>();
    std::vector<float> best(logits, logits + pixels);
    for (std::size_t c = 1; c < output.get_shape()[1]; ++c)
        for (std::size_t i = 0; i < pixels; ++i)
            if (logits[c * pixels + i] > best[i]) {
                best[i] = logits[c * pixels + i];
                labels[i] = static_cast<std::uint8_t>(c);
            }
    return labels;
}

void segment(const std::string& folder, const std::string& input, const std::string& result) {
    const auto settings = read_settings(folder + "/deploy.yaml");
    if (settings.count("runtime") == 0 || settings.at("runtime") != "openvino")
        throw std::runtime_error(folder + ": is no export with --format openvino");
    const auto image = read_bmp(input);
    const auto tensor = prepare(image, settings);
    const auto& precision = settings.at("precision");

    ov::Core core;
    auto model = core.read_model(folder + "/model.xml");
    if (precision == "int8") model->reshape(ov::PartialShape(tensor.get_shape()));  // it knows no other sizes
    auto compiled = core.compile_model(
        model, "CPU", ov::hint::inference_precision(precision == "bf16" ? ov::element::bf16 : ov::element::f32),
        ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY));
    auto request = compiled.create_infer_request();
    request.set_input_tensor(tensor);
    request.infer();
    const auto labels = decide(request.get_output_tensor(), image.height * image.width);

    std::ofstream file(result, std::ios::binary);
    file << "P5\n" << image.width << ' ' << image.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(labels.data()), static_cast<std::streamsize>(labels.size()));
    if (!file.flush()) throw std::runtime_error(result + ": cannot be written");
}

}  // namespace

int main(int count, char** words) {
    if (count != 4) {
        std::cerr << "usage: segment EXPORT_FOLDER image.bmp labels.pgm\n";
        return 2;
    }
    try {
        segment(words[1], words[2], words[3]);
    } catch (const std::exception& error) {
        std::string line = error.what();  // OpenVINO's go over several lines
        for (char& letter : line)
            if (letter == '\n') letter = ' ';
        std::cerr << "error: " << line.substr(0, 500) << '\n';
        return 2;
    }
    return 0;
}
